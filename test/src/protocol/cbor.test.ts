import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/core/errors.ts'
import { decode, encode } from '../../../src/protocol/cbor.ts'
import { MAX_CBOR_DEPTH, MAX_CBOR_ITEMS } from '../../../src/protocol/constants.ts'

const violation = (error: unknown) => isDarnerError(error, 'PROTOCOL_VIOLATION') && error.message.startsWith('hello: ')
const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)])

describe('encode and decode', () => {
  it('keep plain data as it is', () => {
    const value = {
      a: [1, -2, 1.5, Number.MAX_SAFE_INTEGER],
      b: new Uint8Array([1, 2]),
      c: { d: null, e: true, f: 'žluť' },
      g: [],
      h: {},
    }
    assert.deepEqual(decode(encode(value)), value)
  })

  it('give equal bytes for equal values, and leave out what is undefined', () => {
    assert.deepEqual(encode({ b: 1, a: 2, c: undefined }), encode({ a: 2, b: 1 }))
  })

  it('give bytes of their own, not views of the message', () => {
    const message = Buffer.from(encode({ bytes: new Uint8Array([7, 7]) }))
    const value = decode(message) as { bytes: Uint8Array }
    message.fill(0)
    assert.deepEqual(value.bytes, new Uint8Array([7, 7]))
  })

  for (const [what, bytes] of [
    ['nothing at all', ''],
    ['a list that stops early', '82 01'],
    ['bytes after the value', '01 02'],
    ['a list without length', '9f 01 ff'],
    ['a map without length', 'bf 61 61 01 ff'],
    ['text without length', '7f 61 61 ff'],
    ['a tag', 'c0 61 61'],
    ['undefined', 'f7'],
    ['not a number', 'f9 7e 00'],
    ['infinity', 'f9 7c 00'],
    ['a key that is no text', 'a1 01 02'],
    ['a key twice', 'a2 61 61 01 61 61 02'],
    ['a number longer than it needs', '18 01'],
    ['a number beyond exactness', '1b ff ff ff ff ff ff ff ff'],
    ['bytes longer than the message', '5a ff ff ff ff 00'],
    ['a list longer than the message', '9a 00 00 ff ff 01'],
    ['a list of four billion', '9a ff ff ff ff'],
    ['a map of four billion', 'ba ff ff ff ff'],
    ['a stray break', 'ff'],
  ] as const) {
    it(`refuse ${what}`, () => assert.throws(() => decode(hex(bytes), 'hello'), violation))
  }

  it('refuse what is nested too deep, however long', () => {
    assert.deepEqual(decode(encode(nested(MAX_CBOR_DEPTH))), nested(MAX_CBOR_DEPTH))
    assert.throws(() => decode(encode(nested(MAX_CBOR_DEPTH + 1)), 'hello'), violation)
    assert.throws(() => decode(new Uint8Array(1_000_000).fill(0x81), 'hello'), violation)
  })

  it('count depth per branch, not in total', () => {
    const wide = Array.from({ length: 100 }, () => nested(MAX_CBOR_DEPTH - 2))
    assert.deepEqual(decode(encode({ wide, empty: [[], {}, []] })), { wide, empty: [[], {}, []] })
  })

  it('refuse more values than a message may have', () => {
    const many = Array.from({ length: 200 }, () => new Array(1000).fill(0))
    assert.ok(200 * 1000 > MAX_CBOR_ITEMS)
    assert.throws(() => decode(encode(many), 'hello'), violation)
  })

  it('keep a key named after the prototype as plain data', () => {
    const value = decode(hex('a1 69 5f5f70726f746f5f5f a1 61 61 01')) as object
    assert.equal(Object.getPrototypeOf(value), Object.prototype)
    assert.ok(Object.hasOwn(value, '__proto__'))
  })

  it('never throw anything but a violation, whatever the bytes', () => {
    let seed = 12345
    for (let round = 0; round < 3000; round++) {
      const bytes = Uint8Array.from({ length: round % 60 }, () => {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
        return seed >>> 24
      })
      try {
        decode(bytes, 'hello')
      } catch (error) {
        assert.ok(violation(error), `round ${round}: ${error}`)
      }
    }
  })
})
