import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/core/errors.ts'
import { stateTable, tableMarkdown } from '../../../src/core/machine.ts'

type State = 'open' | 'shut' | 'gone'
type Event = 'close' | 'open' | 'remove'

const door = () =>
  stateTable<State, Event>('door', 'shut', [
    { from: 'shut', on: 'open', to: 'open' },
    { from: 'open', on: 'close', to: 'shut', note: 'gently' },
    { from: ['open', 'shut'], on: 'remove', to: 'gone' },
  ])

describe('stateTable', () => {
  it('goes where the row says', () => {
    assert.equal(door().step('shut', 'open', 'front'), 'open')
    assert.equal(door().step('open', 'remove', 'front'), 'gone')
  })

  it('refuses an event that has no row, naming thing, state and event', () => {
    assert.throws(
      () => door().step('gone', 'open', 'front'),
      (error) => isDarnerError(error, 'STATE_INVALID') && error.message === 'door front is gone: open is not possible',
    )
    assert.equal(door().next('shut', 'close'), undefined)
  })

  it('refuses two rows for one state and event', () => {
    assert.throws(
      () =>
        stateTable<State, Event>('door', 'shut', [
          { from: 'shut', on: 'open', to: 'open' },
          { from: ['shut', 'open'], on: 'open', to: 'gone' },
        ]),
      (error) => isDarnerError(error, 'INTERNAL'),
    )
  })

  it('lists states and events', () => {
    assert.deepEqual(door().states(), ['shut', 'open', 'gone'])
    assert.deepEqual(door().events('open'), ['close', 'remove'])
    assert.deepEqual(door().events('gone'), [])
  })
})

describe('tableMarkdown', () => {
  it('prints one line per row', () => {
    const lines = tableMarkdown(door()).trim().split('\n')
    assert.equal(lines.length, 5)
    assert.equal(lines[3], '| open | close | shut | gently |')
  })
})
