import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { FIRST_STATE, STATE_BYTES, stateAfter } from '../../../../src/store/hash/hash-chain.ts'
import type { StoredTask } from '../../../../src/store/store.ts'
import { aBlob, aStore, type Blob, never } from '../../../fixtures/store/a-store.ts'

const signal = never()
/** Long enough that a whole is read again piece by piece as they come, and not in one go at the end. */
const long = (more: { seed?: number; id?: string; pieces?: number; pieceBytes?: number } = {}) =>
  aBlob({ pieces: 12, pieceBytes: 65_536, ...more })

/** The states after all pieces of a blob. */
function statesOf(blob: Blob, pieces = 12): Uint8Array {
  const states: Uint8Array[] = []
  for (let piece = 0; piece < pieces; piece++) {
    const at = piece * blob.task.pieceBytes
    const before = states.at(-1) ?? FIRST_STATE
    states.push(stateAfter({ before, body: blob.piece(piece), at, last: piece === pieces - 1 }))
  }
  return Buffer.concat(states)
}

async function write(stored: StoredTask, blob: Blob, pieces: Iterable<number>): Promise<void> {
  for (const piece of pieces) assert.equal(await stored.write(piece, blob.piece(piece), { signal }), true)
}

/** Whoever reads the file again, from here on, reads other bytes. */
const spoil = (stored: StoredTask) => writeFileSync(stored.path, '')

const BACKWARDS = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]

describe('pieces between known states', () => {
  it('prove the whole in whatever order they come, and nothing is read again', async () => {
    await using a = await aStore()
    for (const blob of [
      long(),
      long({ seed: 2, id: `url:${'a'.repeat(64)}` }),
      long({ seed: 3, pieceBytes: 1024 * 1024 }),
    ]) {
      const stored = await a.store.create(blob.task, { signal })
      stored.table.setDigests(0, blob.table)
      stored.table.setStates(0, statesOf(blob))
      await write(stored, blob, BACKWARDS)
      spoil(stored)
      assert.equal(await stored.finish({ signal }), blob.digest)
    }
  })

  it('show nothing of a wrong one, and lose no proof by it', async () => {
    await using a = await aStore()
    const blob = long()
    const stored = await a.store.create(blob.task, { signal })
    stored.table.setDigests(0, blob.table)
    stored.table.setStates(0, statesOf(blob))
    for (const piece of [0, 5, 11]) {
      const wrong = blob.piece(piece).map((byte, at) => (at === 0 ? byte ^ 1 : byte))
      await assert.rejects(stored.write(piece, wrong, { signal }), { code: 'PIECE_DIGEST' })
      assert.equal(stored.has(piece), false)
    }
    await write(stored, blob, BACKWARDS)
    spoil(stored)
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('are checked by their digests where a state is wrong, and the whole is read again', async () => {
    for (const piece of [0, 4, 11]) {
      await using a = await aStore()
      const blob = long()
      const stored = await a.store.create(blob.task, { signal })
      stored.table.setDigests(0, blob.table)
      const states = statesOf(blob)
      states.set([(states[piece * STATE_BYTES] ?? 0) ^ 1], piece * STATE_BYTES)
      stored.table.setStates(0, states)
      await write(stored, blob, BACKWARDS)
      assert.equal(await stored.finish({ signal }), blob.digest)
    }
  })

  it('leave nothing of a blob whose table is that of another', async () => {
    await using a = await aStore()
    const [blob, other] = [long(), long({ seed: 2 })]
    const stored = await a.store.create(blob.task, { signal })
    stored.table.setDigests(0, other.table)
    stored.table.setStates(0, statesOf(other))
    await write(stored, other, BACKWARDS)
    await assert.rejects(stored.finish({ signal }), { code: 'DIGEST_MISMATCH' })
    assert.equal(a.store.find(blob.task.id), undefined)
  })

  it('need all states: the whole is read again where some came late, or not at all', async () => {
    await using a = await aStore()
    const blob = long()
    for (const known of [0, 5, 11]) {
      const stored = await a.store.create(blob.task, { signal })
      stored.table.setDigests(0, blob.table)
      stored.table.setStates(0, statesOf(blob).subarray(0, known * STATE_BYTES))
      await write(stored, blob, BACKWARDS)
      stored.table.setStates(0, statesOf(blob))
      assert.equal(await stored.finish({ signal }), blob.digest)
      await a.store.remove(blob.task.id)
    }
    const spoilt = await a.store.create(blob.task, { signal })
    spoilt.table.setDigests(0, blob.table)
    await write(spoilt, blob, BACKWARDS)
    spoil(spoilt)
    await assert.rejects(spoilt.finish({ signal }))
  })

  it('go on after a restart, when the whole is read again', async () => {
    await using a = await aStore()
    const blob = long()
    const before = await a.store.create(blob.task, { signal })
    before.table.setDigests(0, blob.table)
    before.table.setStates(0, statesOf(blob))
    await write(before, blob, [0, 1, 7])
    const stored = await (await a.restart()).create(blob.task, { signal })
    assert.deepEqual(stored.have.ranges(), [
      [0, 2],
      [7, 1],
    ])
    stored.table.setDigests(0, blob.table)
    stored.table.setStates(0, statesOf(blob))
    await write(stored, blob, [11, 10, 9, 8, 6, 5, 4, 3, 2])
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('get their states from who appends them in order, who reads nothing again and tells them ever after', async () => {
    await using a = await aStore()
    for (const blob of [long(), long({ seed: 3, pieceBytes: 1024 * 1024 })]) {
      const stored = await a.store.create(blob.task, { signal })
      await Promise.all(Array.from({ length: 12 }, (_, piece) => stored.append(piece, blob.piece(piece))))
      const states = Uint8Array.from(statesOf(blob))
      assert.deepEqual(new Uint8Array(stored.table.states(0, 12)), states)
      spoil(stored)
      assert.equal(await stored.finish({ signal }), blob.digest)
      writeFileSync(stored.path, blob.body)
      const kept = (await a.restart()).byDigest(blob.digest)
      assert.deepEqual(new Uint8Array(kept?.table.states(0, 12) ?? []), states)
      assert.deepEqual(Buffer.from(kept?.table.slice(0, 12) ?? []), Buffer.from(blob.table))
    }
  })

  it('have no states behind one that is appended out of turn', async () => {
    await using a = await aStore()
    const blob = long()
    const stored = await a.store.create(blob.task, { signal })
    for (const piece of [0, 1, 3, 2, 4, 5, 6, 7, 8, 9, 10, 11]) await stored.append(piece, blob.piece(piece))
    assert.deepEqual(
      new Uint8Array(stored.table.states(0, 12)),
      Uint8Array.from(statesOf(blob)).subarray(0, 3 * STATE_BYTES),
    )
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('are refused where they contradict, or do not fit', async () => {
    await using a = await aStore()
    const blob = long()
    const { table } = await a.store.create(blob.task, { signal })
    const states = statesOf(blob)
    table.setStates(0, states.subarray(0, 3 * STATE_BYTES))
    for (const [from, wrong] of [
      [2, states.subarray(0, STATE_BYTES)],
      [12, states.subarray(0, STATE_BYTES)],
      [4, states],
      [4, states.subarray(0, 31)],
      [-1, states],
    ] as const)
      assert.throws(() => table.setStates(from, wrong), { code: 'PROTOCOL_VIOLATION' })
    assert.equal(table.states(0, 12).byteLength, 3 * STATE_BYTES)
  })
})
