import assert from 'node:assert/strict'
import { ALIVE, CONTAINER_STATES } from '../../../runtime/containers/states.ts'

describe('CONTAINER_STATES', () => {
  it('lets every state in which a process may live come to an end', () => {
    for (const state of ALIVE) {
      assert.equal(CONTAINER_STATES.next(state, 'exit'), 'exited', state)
      assert.equal(CONTAINER_STATES.next(state, 'lost'), 'exited', state)
      assert.equal(CONTAINER_STATES.next(state, 'remove'), undefined, state)
    }
  })

  it('lets every other state be removed, again and again', () => {
    const rest = CONTAINER_STATES.states().filter((state) => !ALIVE.includes(state))
    assert.deepEqual(rest.sort(), ['created', 'exited', 'removing', 'restarting'])
    for (const state of rest) assert.equal(CONTAINER_STATES.next(state, 'remove'), 'removing')
  })
})
