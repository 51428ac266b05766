import assert from 'node:assert/strict'
import { type Static, Type } from 'typebox'
import { isDarnerError } from '../../../src/core/errors.ts'
import { Bytes, Count, check } from '../../../src/protocol/schema.ts'

const Piece = Type.Object(
  { number: Count(10), digest: Bytes({ minLength: 32, maxLength: 32 }), note: Type.Optional(Bytes({ maxLength: 3 })) },
  { additionalProperties: false },
)

const violation = (path: string) => (error: unknown) => {
  assert.ok(isDarnerError(error, 'PROTOCOL_VIOLATION'))
  assert.ok(error.message.startsWith('piece') && error.message.includes(path), error.message)
  return true
}

describe('check', () => {
  it('gives back what fits, typed', () => {
    const piece: Static<typeof Piece> = check(Piece, { number: 3, digest: new Uint8Array(32) }, 'piece')
    const digest: Uint8Array = piece.digest
    assert.equal(digest.byteLength, 32)
    assert.doesNotThrow(() => check(Piece, { number: 0, digest: Buffer.alloc(32), note: new Uint8Array(0) }, 'piece'))
  })

  it('names message and path of what does not', () => {
    const digest = new Uint8Array(32)
    assert.throws(() => check(Piece, { number: 11, digest }, 'piece'), violation('/number'))
    assert.throws(() => check(Piece, { number: -1, digest }, 'piece'), violation('/number'))
    assert.throws(() => check(Piece, { number: 1.5, digest }, 'piece'), violation('/number'))
    assert.throws(() => check(Piece, { number: '1', digest }, 'piece'), violation('/number'))
    assert.throws(
      () => check(Piece, { number: 1, digest: new Uint8Array(31) }, 'piece'),
      violation('/digest: must be 32 bytes, is 31'),
    )
    assert.throws(
      () => check(Piece, { number: 1, digest: new Array(32).fill(0) }, 'piece'),
      violation('/digest: must be 32 bytes'),
    )
    assert.throws(
      () => check(Piece, { number: 1, digest, note: new Uint8Array(4) }, 'piece'),
      violation('/note: must be 0 to 3 bytes, is 4'),
    )
    assert.throws(() => check(Piece, { number: 1, digest, extra: 1 }, 'piece'), violation('/extra'))
    assert.throws(() => check(Piece, { number: 1 }, 'piece'), violation('digest'))
    assert.throws(() => check(Piece, null, 'piece'), violation('must be object'))
  })

  it('finds what is too long before it looks at any of it (row 6)', () => {
    let looked = 0
    const Looked = Type.Refine(Type.Number(), () => ++looked > 0)
    const List = Type.Object({ many: Type.Array(Looked, { maxItems: 4 }) }, { additionalProperties: false })
    assert.throws(() => check(List, { many: Array(100_000).fill(1) }, 'piece'), violation('/many'))
    assert.throws(
      () => check(List, Object.fromEntries(Array.from({ length: 9000 }, (_, n) => [`k${n}`, 1])), 'piece'),
      violation(''),
    )
    assert.equal(looked, 0)
  })

  it('looks no further than the first fault (row 6)', () => {
    let looked = 0
    const Bad = Type.Refine(Type.Number(), () => ++looked < 0)
    const List = Type.Object({ many: Type.Array(Bad, { maxItems: 10_000 }) }, { additionalProperties: false })
    assert.throws(() => check(List, { many: Array(10_000).fill(1) }, 'piece'), violation('/many/0'))
    assert.ok(looked < 10, `looked at ${looked}`)
  })
})
