import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { DetachWatch, detachKeys } from '../../../runtime/engine-api/detach-keys.ts'

describe('detachKeys', () => {
  it('reads names of control keys and single characters, and has a default', () => {
    assert.deepEqual(detachKeys('ctrl-a,x,ctrl-@,ctrl-_'), [1, 120, 0, 31])
    for (const none of ['', null, undefined]) assert.deepEqual(detachKeys(none), [16, 17])
  })

  it('refuses what is no key', () => {
    for (const text of ['ctrl-1', 'ab', ',', 'ctrl-', 'é']) assert.throws(() => detachKeys(text), /Invalid detach keys/)
  })
})

describe('DetachWatch', () => {
  const passed = (parts: readonly string[], keys = 'a,a,b') => {
    const watch = new DetachWatch(detachKeys(keys))
    return parts.map((part) => {
      const { input, left } = watch.pass(Buffer.from(part))
      return [Buffer.from(input).toString(), left] as const
    })
  }

  it('passes all but the keys, which may come in parts', () => {
    assert.deepEqual(passed(['xa', 'a', 'by']), [
      ['x', false],
      ['', false],
      ['', true],
    ])
  })

  it('passes keys on that turn out to be others', () => {
    assert.deepEqual(passed(['xa', 'c', 'aac']), [
      ['x', false],
      ['ac', false],
      ['aac', false],
    ])
  })
})
