import assert from 'node:assert/strict'
import { randomBelow, seededRandom } from '../../../../src/core/clock.ts'
import { isDarnerError } from '../../../../src/core/errors.ts'
import { STEPS_BYTES } from '../../../../src/core/task/task.ts'
import { DIGEST_BYTES, PieceTable } from '../../../../src/store/partial/piece-table.ts'

const PIECES = 6
/** What a table takes of each piece, with the means to give and to see it. */
const KINDS = [
  { bytes: DIGEST_BYTES, set: 'setDigests', get: 'digest' },
  { bytes: DIGEST_BYTES, set: 'setStates', get: 'state' },
  { bytes: STEPS_BYTES, set: 'setSteps', get: 'steps' },
] as const

describe('PieceTable', () => {
  it('takes what fits it and contradicts nothing, whatever it is told, and nothing of anything else', () => {
    const random = seededRandom(1)
    const below = (most: number) => randomBelow(random, most)
    /** Entries are told with one of two values in each of their bytes, so that they agree now and then. */
    const entries = (bytes: number) => Uint8Array.from({ length: bytes }, () => 0).fill(below(8) === 0 ? 2 : 1)
    const outcomes = { taken: 0, refused: 0 }
    for (let round = 0; round < 400; round++) {
      const table = new PieceTable(PIECES)
      const known = KINDS.map(() => new Map<number, Uint8Array>())
      for (let said = 0; said < 12; said++) {
        const kind = below(KINDS.length)
        const { bytes, set, get } = KINDS[kind] ?? KINDS[0]
        const from = below(10) === 0 ? [-1, 0.5, Number.NaN, 2 ** 31][below(4)] : below(PIECES + 1)
        const count = below(PIECES + 2)
        const told = entries(below(10) === 0 ? below(PIECES * bytes) : count * bytes)
        const fits = from !== undefined && Number.isInteger(from) && from >= 0 && told.byteLength % bytes === 0
        const last = (from ?? 0) + told.byteLength / bytes
        const before = known[kind] ?? new Map()
        const agrees = [...before].every(([piece, one]) => piece < (from ?? 0) || piece >= last || one[0] === told[0])
        try {
          table[set](from ?? 0, told)
          assert.ok(fits && last <= PIECES && agrees)
          for (let piece = from; piece < last; piece++) before.set(piece, told.subarray(0, bytes))
          outcomes.taken++
        } catch (error) {
          assert.ok(isDarnerError(error, 'PROTOCOL_VIOLATION'), String(error))
          assert.ok(!fits || last > PIECES || !agrees)
          outcomes.refused++
        }
        for (let piece = 0; piece < PIECES; piece++) assert.deepEqual(table[get](piece), before.get(piece))
      }
    }
    assert.ok(outcomes.taken > 500 && outcomes.refused > 500, JSON.stringify(outcomes))
  })

  it('reads back what was kept of it, of no other length', () => {
    const table = new PieceTable(PIECES)
    assert.equal(table.whole(), undefined)
    const lengths: number[] = []
    for (const { bytes, set } of KINDS) {
      table[set](0, new Uint8Array(PIECES * bytes).fill(bytes))
      lengths.push(table.whole()?.byteLength ?? 0)
    }
    const whole = table.whole()
    assert.ok(whole)
    for (let length = 0; length <= whole.byteLength; length++) {
      const read = PieceTable.fromBytes(PIECES, whole.subarray(0, length))
      assert.deepEqual(read?.whole()?.byteLength, lengths.includes(length) ? length : undefined)
    }
    assert.deepEqual(PieceTable.fromBytes(PIECES, whole)?.whole(), whole)
    assert.equal(PieceTable.fromBytes(PIECES, new Uint8Array(whole.byteLength + 1)), undefined)
  })
})
