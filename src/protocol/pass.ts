/**
 * A pass is a right to read one task, shown offline: the supernode gives it to one peer for a {@link Right} that peer has, and
 * parents check it against the supernode's public key (its PeerId).
 * Encoding: CBOR array [2, task, reader, place, reach, anybody, atMs, expiresMs] followed by the 64-byte Ed25519 signature over it.
 */
import { type Static, Type } from 'typebox'
import type { PeerId } from '../core/contracts/exchange.ts'
import { DarnerError } from '../core/errors.ts'
import type { Place } from '../core/task/place.ts'
import type { TaskId } from '../core/task/task.ts'
import { type Came, opens, type Reach } from '../rights/came.ts'
import type { Right } from '../rights/right.ts'
import { decode, encode } from './cbor.ts'
import { SIGNATURE_BYTES, verifySignature } from './identity.ts'
import { Count, check } from './schema.ts'

/** How long a pass lasts; renewed while its task is followed and the right holds. */
export const PASS_MS = 10 * 60_000

/** What a pass is given for. Without a right it opens only what its place gave to anybody. */
export type Grant =
  | { readonly right: Right; readonly reach: 'whole' | 'through' }
  | { readonly right?: undefined; readonly reach: 'open'; readonly place: Place }

const PassBody = Type.Tuple([
  Type.Literal(2),
  Type.String({ maxLength: 160 }),
  Type.String({ maxLength: 128 }),
  Type.String({ maxLength: 1024 }),
  Type.Union([Type.Literal('whole'), Type.Literal('through'), Type.Literal('open')]),
  Type.Boolean(),
  Count(2 ** 48),
  Count(2 ** 48),
])

export interface Pass {
  readonly task: TaskId
  readonly reader: PeerId
  /** Where the reader's own credential was accepted; with `open`, where it could not be asked. */
  readonly place: Place
  readonly reach: Reach
  /** The place asked for no credential. */
  readonly anybody: boolean
  /** When the place said yes; 0 with `open`. */
  readonly atMs: number
  readonly expiresMs: number
}

type Sign = (bytes: Uint8Array) => Uint8Array

/** Signs a pass for what was granted to a reader. `sign` is the supernode's identity. */
export function signPass(
  grant: Grant,
  { task, reader, expiresMs }: { task: TaskId; reader: PeerId; expiresMs: number },
  sign: Sign,
): Uint8Array {
  const { reach } = grant
  if (grant.reach === 'open')
    return signed({ task, reader, place: grant.place, reach, anybody: true, atMs: 0, expiresMs }, sign)
  const { place, anybody, atMs, content } = grant.right
  if (content !== task) throw new DarnerError('INTERNAL', `a right to ${content} gives no pass for ${task}`)
  return signed({ task, reader, place, reach, anybody, atMs, expiresMs }, sign)
}

/**
 * The supernode's own pass, which it shows to a host that it reads from: for what came through a place, or, to compare it with its
 * own table and give nothing on, for all.
 */
export function signOwnPass(
  { task, self, through, expiresMs }: { task: TaskId; self: PeerId; through: Came | 'all'; expiresMs: number },
  sign: Sign,
): Uint8Array {
  const { place, anybody } = through === 'all' ? { place: '' as Place, anybody: false } : through
  const reach = through === 'all' ? 'whole' : anybody ? 'open' : 'through'
  return signed({ task, reader: self, place, reach, anybody, atMs: 0, expiresMs }, sign)
}

function signed({ task, reader, place, reach, anybody, atMs, expiresMs }: Pass, sign: Sign): Uint8Array {
  const body = encode([2, task, reader, place, reach, anybody, atMs, expiresMs])
  const bytes = new Uint8Array(body.byteLength + SIGNATURE_BYTES)
  bytes.set(body)
  bytes.set(sign(body), body.byteLength)
  return bytes
}

/** A pass of one's own, as the supernode just gave it. */
export function readPass(bytes: Uint8Array): Pass {
  if (bytes.byteLength <= SIGNATURE_BYTES) throw new DarnerError('PROTOCOL_VIOLATION', 'a pass without a signature')
  const body: Static<typeof PassBody> = check(PassBody, decode(bytes.subarray(0, -SIGNATURE_BYTES)), 'pass')
  const [, task, reader, place, reach, anybody, atMs, expiresMs] = body
  return {
    task: task as TaskId,
    reader: reader as PeerId,
    place: place as Place,
    reach,
    anybody,
    atMs,
    expiresMs,
  }
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
    const { issuer, reader, task, nowMs, came } = this.#parts
    if (this.#bytes !== undefined && Buffer.compare(this.#bytes, bytes) === 0) return
    const pass = checkPass(bytes, { issuer: issuer(), reader, task, nowMs: nowMs() })
    if (!opens(pass, came()))
      throw new DarnerError('CAPABILITY_REFUSED', `${task}: what ${reader} may read didn't come through its place`)
    this.#bytes = bytes.slice()
    this.#expiresMs = pass.expiresMs
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
  /** How what is here of the task came here. */
  readonly came: () => Came | undefined
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
  if (!verifySignature(expected.issuer, bytes.subarray(0, -SIGNATURE_BYTES), bytes.subarray(-SIGNATURE_BYTES)))
    throw refuse('its pass is not signed by our supernode')
  const pass = readPass(bytes)
  if (pass.task !== expected.task) throw refuse('its pass is for another task')
  if (pass.reader !== expected.reader) throw refuse('its pass was given to another peer')
  if (pass.expiresMs <= expected.nowMs)
    throw refuse(`its pass expired ${Math.round((expected.nowMs - pass.expiresMs) / 1000)} s ago`)
  return pass
}
