import assert from 'node:assert/strict'
import { DETACH_KEYS, DetachKeys, detachKeysOf } from '../../../src/cli/detach-keys.ts'

const type = (...chunks: number[][]) => {
  const keys = new DetachKeys()
  const results = chunks.map((chunk) => keys.push(Uint8Array.from(chunk)))
  return { pass: results.flatMap((one) => [...one.pass]), detached: results.some((one) => one.detached) }
}

describe('detachKeysOf', () => {
  it("reads docker's words, and says which it can't read", () => {
    assert.deepEqual(detachKeysOf({ detachKeys: 'ctrl-p,ctrl-q' }).detachKeys, DETACH_KEYS)
    assert.deepEqual(detachKeysOf({ detachKeys: 'a,ctrl-@,ctrl-],ctrl-_' }).detachKeys, [97, 0, 0x1d, 0x1f])
    assert.deepEqual([detachKeysOf({}), detachKeysOf({ detachKeys: '' })], [{}, {}])
    for (const detachKeys of ['ctrl-', 'ab', 'ctrl-pp', 'a,', 'ü'])
      assert.throws(() => detachKeysOf({ detachKeys }), /--detach-keys/)
  })
})

describe('DetachKeys', () => {
  it('notices the keys together, apart and after a false start', () => {
    assert.deepEqual(type([97, 0x10, 0x11]), { pass: [97], detached: true })
    assert.deepEqual(type([0x10], [0x11]), { pass: [], detached: true })
    assert.deepEqual(type([0x10, 0x10, 0x11]), { pass: [0x10], detached: true })
  })

  it('passes everything else on, a held key too', () => {
    assert.deepEqual(type([0x10], [98]), { pass: [0x10, 98], detached: false })
    assert.deepEqual(type([0x11, 0x10]), { pass: [0x11], detached: false })
  })
})
