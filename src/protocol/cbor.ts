/**
 * The one binary encoding of messages: CBOR (RFC 8949) narrowed to plain data. Definite lengths, shortest forms, text keys and none twice,
 * no tags, no undefined, no NaN or infinity. Whole numbers only as far as they are exact. What is encoded here also has its keys in order
 * (section 4.2), so equal values give equal bytes; the decoder doesn't insist on the order.
 */
import { type DecodeOptions, decode as decodeWith, encode as encodeWith, Tokenizer } from 'cborg'
import { DarnerError } from '../core/errors.ts'
import { MAX_CBOR_DEPTH, MAX_CBOR_ITEMS } from './constants.ts'

const STRICT: DecodeOptions = {
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  strict: true,
  useMaps: false,
  rejectDuplicateMapKeys: true,
}

/** Encodes plain data; properties that are undefined are left out. Equal values give equal bytes. */
export function encode(value: unknown): Uint8Array {
  return encodeWith(value, { ignoreUndefinedProperties: true })
}

/** Decodes one message. Throws PROTOCOL_VIOLATION, naming `what`, for anything outside the subset, its bounds, or `maxItems` values. */
export function decode(bytes: Uint8Array, what = 'message', maxItems: number = MAX_CBOR_ITEMS): unknown {
  try {
    return decodeWith(bytes, { ...STRICT, tokenizer: new BoundedTokenizer(bytes, maxItems) })
  } catch (error) {
    if (error instanceof DarnerError) throw error
    const text = error instanceof Error ? error.message.replace(/^CBOR decode error:? ?/, '') : String(error)
    throw new DarnerError('PROTOCOL_VIOLATION', `${what}: not in the message encoding: ${text}`, { cause: error })
  }
}

/** Counts depth and items before the decoder builds anything from them. */
class BoundedTokenizer extends Tokenizer {
  /** Values that are still to come in each open array or map, innermost last. */
  readonly #open: number[] = []
  readonly #maxItems: number
  #items = 0

  constructor(bytes: Uint8Array, maxItems: number) {
    // a plain view: slices of a Buffer would share its memory, slices of this are copies
    super(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength), STRICT)
    this.#maxItems = maxItems
  }

  override next(): ReturnType<Tokenizer['next']> {
    const token = super.next()
    if (++this.#items > this.#maxItems) throw new Error(`more than ${this.#maxItems} values`)
    const at = this.#open.length - 1
    const left = this.#open[at]
    if (left !== undefined) this.#open[at] = left - 1
    const values = token.type.name === 'array' ? token.value : token.type.name === 'map' ? token.value * 2 : 0
    if (values > 0) {
      if (values > this.#maxItems) throw new Error(`a list of ${values} values`)
      if (this.#open.push(values) > MAX_CBOR_DEPTH) throw new Error(`nested deeper than ${MAX_CBOR_DEPTH}`)
    }
    while (this.#open.at(-1) === 0) this.#open.pop()
    return token
  }
}
