/**
 * A pass is a right to read one task, given by the supernode to one peer: bound to the task, the peer, the place at the origin
 * where the right was shown, and an expiry. Parents check it offline against the supernode's public key (its PeerId).
 * Encoding: CBOR array [1, task, reader, scope, expiresMs] followed by the 64-byte Ed25519 signature over it.
 */
import { type Static, Type } from 'typebox'
import type { PeerId } from '../core/contracts/exchange.ts'
import { DarnerError } from '../core/errors.ts'
import type { TaskId } from '../core/task/task.ts'
import { decode, encode } from './cbor.ts'
import { SIGNATURE_BYTES, verifySignature } from './identity.ts'
import { Count, check } from './schema.ts'

/** How long a pass lasts; renewed while its task is followed. */
export const PASS_MS = 10 * 60_000

/**
 * A scope that begins so has not yet shown the whole blob: the pass opens only what its holder reads, or has read, through the
 * same scope, see {@link opens}.
 */
export const UNPROVEN = '?'

/** Whether a pass of scope `shown` opens what was got under a pass of scope `held`; undefined when that isn't known any more. */
export function opens(shown: string, held: string | undefined): boolean {
  if (!shown.startsWith(UNPROVEN)) return true
  return held === 'public' || held === shown || held === shown.slice(UNPROVEN.length)
}

/** The scope of a pass of one's own, as the supernode just gave it. */
export function scopeOfPass(bytes: Uint8Array): string {
  const [, , , scope]: Static<typeof PassBody> = check(PassBody, decode(bytes.subarray(0, -SIGNATURE_BYTES)), 'pass')
  return scope
}

const PassBody = Type.Tuple([
  Type.Literal(1),
  Type.String({ maxLength: 160 }),
  Type.String({ maxLength: 128 }),
  Type.String({ maxLength: 800 }),
  Count(2 ** 48),
])

export interface Pass {
  readonly task: TaskId
  readonly reader: PeerId
  /** `public`, or `UPSTREAM/REPOSITORY` where the reader's own credential was accepted; see {@link UNPROVEN}. */
  readonly scope: string
  readonly expiresMs: number
}

/** Signs a pass. `sign` is the supernode's identity. */
export function signPass(pass: Pass, sign: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const body = encode([1, pass.task, pass.reader, pass.scope, pass.expiresMs])
  const signature = sign(body)
  const bytes = new Uint8Array(body.byteLength + SIGNATURE_BYTES)
  bytes.set(body)
  bytes.set(signature, body.byteLength)
  return bytes
}

/** The right under which a child has a task open, from one pass to the next. */
export class ShownPass {
  readonly #parts: ShownPassParts
  #bytes: Uint8Array | undefined
  #expiresMs = 0

  constructor(parts: ShownPassParts) {
    this.#parts = parts
  }

  /** Takes a pass, the first or a newer one. Throws CAPABILITY_REFUSED. */
  show(bytes: Uint8Array): void {
    const { issuer, reader, task, nowMs, heldUnder } = this.#parts
    if (this.#bytes !== undefined && Buffer.compare(this.#bytes, bytes) === 0) return
    const { scope, expiresMs } = checkPass(bytes, { issuer: issuer(), reader, task, nowMs: nowMs() })
    if (!opens(scope, heldUnder()))
      throw new DarnerError(
        'CAPABILITY_REFUSED',
        `${task}: ${reader} shows a pass of a place that never served it whole`,
      )
    this.#bytes = bytes.slice()
    this.#expiresMs = expiresMs
  }

  /** Throws CAPABILITY_REFUSED once the pass shown last is over. */
  check(): void {
    const { reader, task, nowMs } = this.#parts
    if (nowMs() < this.#expiresMs) return
    throw new DarnerError('CAPABILITY_REFUSED', `${reader} reads ${task}: its pass ended and it showed no newer one`, {
      details: { reader, task },
    })
  }
}

export interface ShownPassParts {
  readonly reader: PeerId
  readonly task: TaskId
  readonly issuer: () => PeerId
  readonly nowMs: () => number
  /** The scope under which the task is held here, see {@link opens}. */
  readonly heldUnder: () => string | undefined
}

/** Throws CAPABILITY_REFUSED unless `bytes` is a pass of `issuer` for exactly this reader and task, not expired at `nowMs`. */
export function checkPass(
  bytes: Uint8Array,
  expected: { issuer: PeerId; reader: PeerId; task: TaskId; nowMs: number },
): Pass {
  const refuse = (why: string) =>
    new DarnerError('CAPABILITY_REFUSED', `${expected.reader} asked to read ${expected.task}: ${why}`, {
      details: { reader: expected.reader, task: expected.task },
    })
  if (bytes.byteLength <= SIGNATURE_BYTES) throw refuse('it showed no pass')
  const body = bytes.subarray(0, -SIGNATURE_BYTES)
  if (!verifySignature(expected.issuer, body, bytes.subarray(-SIGNATURE_BYTES)))
    throw refuse('its pass is not signed by our supernode')
  const [, task, reader, scope, expiresMs]: Static<typeof PassBody> = check(PassBody, decode(body), 'pass')
  if (task !== expected.task) throw refuse('its pass is for another task')
  if (reader !== expected.reader) throw refuse('its pass was given to another peer')
  if (expiresMs <= expected.nowMs)
    throw refuse(`its pass expired ${Math.round((expected.nowMs - expiresMs) / 1000)} s ago`)
  return { task: expected.task, reader: expected.reader, scope, expiresMs }
}
