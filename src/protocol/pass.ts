/**
 * A pass is a right to read one task, shown offline. The supernode gives it to one peer for a {@link Right} that the peer has. Parents
 * check it against the supernode's public key (its PeerId). Encoding: CBOR array [3, task, bytes, reader, place, reach, anybody, atMs,
 * expiresMs] followed by the 64-byte Ed25519 signature over it.
 */
import { type Static, Type } from 'typebox'
import type { PeerId } from '../core/contracts/exchange.ts'
import { DarnerError } from '../core/errors.ts'
import type { Place } from '../core/task/place.ts'
import { MAX_TASK_BYTES, type Task, type TaskId } from '../core/task/task.ts'
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
  Type.Literal(3),
  Type.String({ maxLength: 160 }),
  Count(MAX_TASK_BYTES),
  Type.String({ maxLength: 128 }),
  Type.String({ maxLength: 1024 }),
  Type.Union([Type.Literal('whole'), Type.Literal('through'), Type.Literal('open')]),
  Type.Boolean(),
  Count(2 ** 48),
  Count(2 ** 48),
])

export interface Pass {
  readonly task: TaskId
  /** How long the content is for which it was given: it opens none of another length. */
  readonly bytes: number
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

/** What of a task a pass is for. */
type PassTask = Pick<Task, 'id' | 'bytes'>

/** Signs a pass for what was granted to a reader. `sign` is the supernode's identity. */
export function signPass(
  grant: Grant,
  { task: { id: task, bytes }, reader, expiresMs }: { task: PassTask; reader: PeerId; expiresMs: number },
  sign: Sign,
): Uint8Array {
  const { reach } = grant
  if (grant.reach === 'open')
    return signed({ task, bytes, reader, place: grant.place, reach, anybody: true, atMs: 0, expiresMs }, sign)
  const { place, anybody, atMs, content, bytes: accepted } = grant.right
  if (content !== task || accepted !== bytes)
    throw new DarnerError('INTERNAL', `a right to ${content}, ${accepted} bytes, gives no pass for ${task}, ${bytes}`)
  return signed({ task, bytes, reader, place, reach, anybody, atMs, expiresMs }, sign)
}

/**
 * The supernode's own pass, which it shows to a host that it reads from. It is for what came through a place, or for all, to compare with
 * its own table and pass nothing on.
 */
export function signOwnPass(
  {
    task: { id: task, bytes },
    self,
    through,
    expiresMs,
  }: { task: PassTask; self: PeerId; through: Came | 'all'; expiresMs: number },
  sign: Sign,
): Uint8Array {
  const { place, anybody } = through === 'all' ? { place: '' as Place, anybody: false } : through
  const reach = through === 'all' ? 'whole' : anybody ? 'open' : 'through'
  return signed({ task, bytes, reader: self, place, reach, anybody, atMs: 0, expiresMs }, sign)
}

function signed({ task, bytes, reader, place, reach, anybody, atMs, expiresMs }: Pass, sign: Sign): Uint8Array {
  const body = encode([3, task, bytes, reader, place, reach, anybody, atMs, expiresMs])
  const pass = new Uint8Array(body.byteLength + SIGNATURE_BYTES)
  pass.set(body)
  pass.set(sign(body), body.byteLength)
  return pass
}

/** A pass of one's own, as the supernode just gave it. */
export function readPass(pass: Uint8Array): Pass {
  if (pass.byteLength <= SIGNATURE_BYTES) throw new DarnerError('PROTOCOL_VIOLATION', 'a pass without a signature')
  const body: Static<typeof PassBody> = check(PassBody, decode(pass.subarray(0, -SIGNATURE_BYTES)), 'pass')
  const [, task, bytes, reader, place, reach, anybody, atMs, expiresMs] = body
  return {
    task: task as TaskId,
    bytes,
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
    const pass = checkPass(bytes, { issuer: issuer(), reader, task: task.id, nowMs: nowMs() })
    if (pass.bytes !== task.bytes)
      throw new DarnerError(
        'CAPABILITY_REFUSED',
        `${task.id}: ${reader} may read one of ${pass.bytes} bytes, it has ${task.bytes}`,
      )
    if (!opens(pass, came()))
      throw new DarnerError('CAPABILITY_REFUSED', `${task.id}: what ${reader} may read didn't come through its place`)
    this.#bytes = bytes.slice()
    this.#expiresMs = pass.expiresMs
  }

  /** Throws CAPABILITY_REFUSED once the pass shown last is over. */
  check(): void {
    const { reader, task, nowMs } = this.#parts
    if (nowMs() < this.#expiresMs) return
    throw new DarnerError(
      'CAPABILITY_REFUSED',
      `${reader} reads ${task.id}: its pass ended and it showed no newer one`,
      {
        details: { reader, task: task.id },
      },
    )
  }
}

export interface ShownPassParts {
  readonly reader: PeerId
  readonly task: PassTask
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
