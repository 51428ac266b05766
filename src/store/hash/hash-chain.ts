/**
 * SHA-256 is a chain: the state that it is in after one piece is all that it needs to go on with the next. A host that knows the states
 * around a piece checks the piece by them. If all pieces lead from one state to the next, the last state is the blob's digest.
 */
import { hash } from 'node:crypto'
import { DarnerError } from '../../core/errors.ts'
import { inPool, type NativeCall, ownFunctions } from '../../core/own-library.ts'

interface Sha256 {
  readonly begin: NativeCall
  readonly update: NativeCall
  readonly end: NativeCall
}

/** A state as SHA-256 gives its digest: eight words, big-endian. */
export const STATE_BYTES = 32
/** What SHA-256 takes in at a time; there is no state between. */
export const BLOCK_BYTES = 64
/** The state before the first byte (FIPS 180-4, 5.3.3). */
export const FIRST_STATE: Uint8Array = Buffer.from(
  '6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19',
  'hex',
)

/**
 * OpenSSL's SHA256_CTX in words of 32 bits: the state, the length so far in bits, low word first, and the unhashed rest; with spare space.
 */
const CONTEXT_WORDS = 64
const STATE_WORDS = STATE_BYTES / 4

/** Node's own functions; undefined where it was built without them, or with others of the same names. */
const native = checked(
  ownFunctions((own) => ({
    begin: own('int SHA256_Init(void *context)'),
    update: own('int SHA256_Update(void *context, const void *bytes, size_t length)'),
    end: own('int SHA256_Final(void *digest, void *context)'),
  })),
)

/** Whether this Node can go on from a state. */
export const chains = native !== undefined

export interface Link {
  /** The state before. */
  readonly before: Uint8Array
  /** Whole blocks, but for the last of a blob. */
  readonly body: Uint8Array
  /** Where in the blob it begins. */
  readonly at: number
  /** The blob ends with it: the state after is its digest. */
  readonly last: boolean
}

/** The state after a link's bytes. Only where this Node {@link chains}. */
export function stateAfter(link: Link): Uint8Array {
  return after(native ?? failUnable(), link)
}

/** The same in the thread pool; leave the bytes alone until it resolves. */
export async function stateAfterAside(link: Link): Promise<Uint8Array> {
  const sha256 = native ?? failUnable()
  const context = begun(sha256, link)
  return ended(sha256, link, context, await inPool(sha256.update, context, link.body, link.body.byteLength))
}

function after(sha256: Sha256, link: Link): Uint8Array {
  const context = begun(sha256, link)
  return ended(sha256, link, context, sha256.update(context, link.body, link.body.byteLength))
}

function begun(sha256: Sha256, { before, at }: Link): Uint32Array {
  const context = new Uint32Array(CONTEXT_WORDS)
  sha256.begin(context)
  const words = new DataView(before.buffer, before.byteOffset, STATE_BYTES)
  for (let word = 0; word < STATE_WORDS; word++) context[word] = words.getUint32(word * 4)
  context[STATE_WORDS] = at * 8
  context[STATE_WORDS + 1] = Math.floor(at / 2 ** 29)
  return context
}

function ended(sha256: Sha256, { body, last }: Link, context: Uint32Array, updated: number | bigint): Uint8Array {
  const state = new Uint8Array(STATE_BYTES)
  if (updated !== 1 || (last && sha256.end(state, context) !== 1))
    throw new DarnerError('INTERNAL', `hashing ${body.byteLength} bytes failed`)
  if (last) return state
  const words = new DataView(state.buffer)
  for (let word = 0; word < STATE_WORDS; word++) words.setUint32(word * 4, context[word] ?? 0)
  return state
}

/** The functions, if they do with their memory what is expected of them. */
function checked(sha256: Sha256 | undefined): Sha256 | undefined {
  if (sha256 === undefined) return undefined
  const bytes = new Uint8Array(2 * BLOCK_BYTES + 1).fill(1)
  const before = after(sha256, { before: FIRST_STATE, body: bytes.subarray(0, BLOCK_BYTES), at: 0, last: false })
  const digest = after(sha256, { before, body: bytes.subarray(BLOCK_BYTES), at: BLOCK_BYTES, last: true })
  return hash('sha256', bytes, 'buffer').equals(digest) ? sha256 : undefined
}

function failUnable(): never {
  throw new DarnerError('INTERNAL', 'this Node has no SHA-256 that goes on from a state')
}
