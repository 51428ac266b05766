/**
 * Blobs that a host reads at its origin itself, since nobody else held or read them when it asked. When others come, the seed
 * reads from that host in the place of the origin, which goes on having one reader.
 */

import { LRUCache } from 'lru-cache'
import type { Clock } from '../src/core/clock.ts'
import type { PeerId, PieceExchange } from '../src/core/contracts/exchange.ts'
import type { OriginPort, OriginRead, OriginTarget } from '../src/core/contracts/origin.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import { anySignal } from '../src/core/signals.ts'
import { Bitmap } from '../src/core/task/bitmap.ts'
import type { Credential, Origin } from '../src/core/task/origin.ts'
import { blobTask, pieceCount, type Task, type TaskId } from '../src/core/task/task.ts'
import { upTo } from '../src/core/up-to.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { placeOf } from '../src/rights/place.ts'
import type { Host } from './hosts.ts'
import { lentPieces } from './lent-read.ts'
import { ownPass } from './own-pass.ts'
import type { Traffic } from './traffic.ts'

export interface LeadsParts {
  readonly origin: OriginPort
  readonly node: Node
  readonly identity: Identity
  readonly clock: Clock
  readonly log: Log
  /** Ends the questions that are asked here on nobody's behalf. */
  readonly signal: AbortSignal
  readonly exchange: () => PieceExchange
  readonly traffic: Traffic
  readonly host: (peer: PeerId) => Host | undefined
  /** What the seed reads of a blob comes from a host from now on, or no longer. */
  readonly lends: (peer: PeerId, task: TaskId, on: boolean) => void
  /** It handed over bytes that are not the blob, which its origin serves right. */
  readonly liar: (peer: PeerId, task: TaskId) => void
}

export interface Lead {
  readonly task: Task
  readonly peer: PeerId
  /** What it says it holds. It has no pass, and no follower's place: what it reads, it reads with its own rights. */
  readonly have: Bitmap
  /** Ends what is read from it. */
  readonly over: AbortController
  /** When the origin last said, to the supernode itself, that anybody may have the blob. */
  openMs: number
  complete: boolean
  /** Since when its host is away. */
  awayMs: number | undefined
}

/** What the seed reads, or read last, of a blob through a host. */
interface Lent {
  readonly lead: Lead
  /** All of the blob came from there. */
  whole: boolean
}

const MAX_LEADS = 16_384
/** Pieces of all that one host reads for all: thousands of large blobs. */
const MAX_HOST_PIECES = 2 ** 22
/** A host that went away may come back within this, as after a restart of either side. */
const AWAY_MS = 60_000
const MAX_ACCUSED = 1024
const ASK_MS = 30_000
/** What an origin gives to anybody isn't asked again for so long. */
const OPEN_MS = 60_000
/** A host that handed over other bytes than the blob's reads for nobody for so long, and twice as long each next time. */
const LIAR_REST_MS = 600_000
const MOST_LIAR_REST_MS = 86_400_000

export class Leads {
  readonly #parts: LeadsParts
  /** By place and digest: what one place's readers hold says nothing about another place. */
  readonly #leads = new LRUCache<string, Lead>(upTo(MAX_LEADS))
  /** The host that the seed reads a blob from now, and the last one. */
  readonly #lending = new Map<TaskId, number>()
  readonly #lastFrom = new Map<TaskId, Lent>()
  /** Hosts that handed over a wrong blob as the right one, until another read shows whether the origin serves that. */
  readonly #accused = new LRUCache<TaskId, PeerId>(upTo(MAX_ACCUSED))
  /** Hosts that read for nobody: until when, and for how long it was. */
  readonly #resting = new LRUCache<PeerId, { untilMs: number; forMs: number }>(upTo(MAX_ACCUSED))

  constructor(parts: LeadsParts) {
    this.#parts = parts
  }

  /** Makes `peer` the reader of a blob at a place; undefined where somebody is that already. */
  grant(peer: PeerId, origin: Origin, digest: Digest, bytes: number, have?: Uint8Array): Lead | undefined {
    const key = keyOf(origin, digest)
    const before = this.#leads.get(key)
    if (before !== undefined && before.peer !== peer && this.#parts.host(before.peer) !== undefined) return undefined
    if (this.#parts.clock.monotonicMs() < (this.#resting.get(peer)?.untilMs ?? 0)) return undefined
    before?.over.abort()
    const task = blobTask(digest, bytes)
    const pieces = pieceCount(task)
    const held = have?.byteLength === Math.ceil(pieces / 8) ? Bitmap.fromBytes(pieces, have) : new Bitmap(pieces)
    const openMs = Number.NEGATIVE_INFINITY
    const over = new AbortController()
    const lead: Lead = { task, peer, have: held, over, openMs, complete: false, awayMs: undefined }
    this.#makeRoom(peer, pieces)
    this.#leads.set(key, lead)
    void this.#learn(key, lead, { origin, digest })
    return lead
  }

  /** A host that reads a great deal for all loses what nobody asked for longest. */
  #makeRoom(peer: PeerId, pieces: number): void {
    const own = [...this.#leads].reverse().filter(([, lead]) => lead.peer === peer)
    let held = own.reduce((sum, [, { have }]) => sum + have.size, pieces)
    for (const [key, lead] of own) {
      if (held <= MAX_HOST_PIECES) return
      held -= lead.have.size
      this.#end(key, lead)
    }
  }

  /** Those whose hosts went away, and did not come back, end. Call it about once a second. */
  tick(): void {
    const now = this.#parts.clock.monotonicMs()
    for (const [key, lead] of [...this.#leads]) {
      lead.awayMs = this.#parts.host(lead.peer) === undefined ? (lead.awayMs ?? now) : undefined
      if (lead.awayMs !== undefined && now - lead.awayMs >= AWAY_MS) this.#end(key, lead)
    }
  }

  #end(key: string, { peer, task, over }: Lead): void {
    this.#leads.delete(key)
    over.abort(new DarnerError('PEER_UNREACHABLE', `${peer} has left ${task.id}`))
  }

  /** What a host reads for all: the first of the places that it reads a blob at. */
  of(task: TaskId, peer: PeerId): Lead | undefined {
    const [lead] = this.#of(task, peer)
    return lead
  }

  /** The host holds all of it now. */
  completed(task: TaskId, peer: PeerId): void {
    for (const lead of this.#of(task, peer)) lead.complete = true
  }

  /** The host has left the task, or dropped it: `dropped` also where it was complete. */
  left(task: TaskId, peer: PeerId, dropped: boolean): void {
    for (const [key, lead] of [...this.#leads]) {
      if (lead.task.id !== task || lead.peer !== peer || (lead.complete && !dropped)) continue
      this.#end(key, lead)
    }
  }

  /** Whether what the seed reads of this blob now comes from a host instead of the origin. */
  lends(task: TaskId): boolean {
    return this.#lending.has(task)
  }

  /** The seed's read ended: `error` is undefined where the whole digest matched. */
  ended(task: TaskId, error: DarnerError | undefined): void {
    const lent = this.#lastFrom.get(task)
    this.#lastFrom.delete(task)
    const accused = this.#accused.get(task)
    if (error === undefined && accused !== undefined && lent === undefined) {
      this.#accused.delete(task)
      this.#parts.liar(accused, task)
    }
    if (lent === undefined || !isDarnerError(error, 'DIGEST_MISMATCH')) return
    const { peer, complete } = lent.lead
    this.#parts.log.warn({ taskId: task, peer, error: error.message }, 'what a host read at the origin is wrong')
    this.#rest(peer)
    // its origin may have served it so; but that the digest matched, it can't have seen
    if (lent.whole && complete) this.#accused.set(task, peer)
    this.left(task, peer, true)
  }

  #rest(peer: PeerId): void {
    const forMs = Math.min(MOST_LIAR_REST_MS, 2 * (this.#resting.get(peer)?.forMs ?? LIAR_REST_MS / 2))
    this.#resting.set(peer, { untilMs: this.#parts.clock.monotonicMs() + forMs, forMs })
  }

  /** The origin as the seed is to see it. */
  readonly origin: OriginPort = {
    read: async (target, options) => {
      const lead = this.#find(target)
      if (lead === undefined || options.ifMatch !== undefined) return await this.#parts.origin.read(target, options)
      if (this.#parts.clock.monotonicMs() - lead.openMs >= OPEN_MS) await this.#ask(lead, target, options)
      return this.#read(lead, target.origin, options)
    },
    stat: (...args) => this.#parts.origin.stat(...args),
    manifest: (...args) => this.#parts.origin.manifest(...args),
    manifestHead: (...args) => this.#parts.origin.manifestHead(...args),
  }

  #find({ origin, digest }: OriginTarget): Lead | undefined {
    if (digest === undefined || (origin.kind === 'registry' && origin.collection !== 'blobs')) return undefined
    const lead = this.#leads.get(keyOf(origin, digest))
    return lead !== undefined && this.#parts.host(lead.peer) !== undefined ? lead : undefined
  }

  *#of(task: TaskId, peer: PeerId): Generator<Lead> {
    for (const lead of [...this.#leads.values()].reverse()) if (lead.task.id === task && lead.peer === peer) yield lead
  }

  /** Whether anybody may have it, and that it is as long as its reader says: asked once, so that nobody waits for it later. */
  async #learn(key: string, lead: Lead, target: OriginTarget): Promise<void> {
    const signal = anySignal([this.#parts.signal, lead.over.signal, AbortSignal.timeout(ASK_MS)])
    try {
      await this.#ask(lead, target, { signal })
    } catch (error) {
      if (isDarnerError(error, 'SIZE_MISMATCH') && this.#leads.get(key) === lead)
        this.left(lead.task.id, lead.peer, true)
    }
  }

  /** Throws the origin's refusal of this credential, SIZE_MISMATCH. */
  async #ask(
    lead: Lead,
    target: OriginTarget,
    options: { credential?: Credential | undefined; signal: AbortSignal },
  ): Promise<void> {
    const { task } = lead
    const version = await this.#parts.origin.stat(target, options)
    if (version.bytes !== undefined && version.bytes !== task.bytes)
      throw new DarnerError(
        'SIZE_MISMATCH',
        `${task.id}: its reader says ${task.bytes} bytes, the origin ${version.bytes}`,
      )
    if (options.credential === undefined) lead.openMs = this.#parts.clock.monotonicMs()
  }

  #read(lead: Lead, origin: Origin, { from = 0, signal: outer }: { from?: number; signal: AbortSignal }): OriginRead {
    const { task, peer, over } = lead
    const parts = this.#parts
    const first = Math.floor(from / task.pieceBytes)
    const closed = new AbortController()
    const signal = anySignal([outer, over.signal, closed.signal])
    const host = this.#parts.host(peer)
    const lending = this.#lending
    const gone = (error: unknown) => {
      this.left(task.id, peer, true)
      const why = asDarnerError(error, 'reading through a host').message
      parts.log.warn({ taskId: task.id, peer, error: why }, 'read through a host ended')
      return new DarnerError('ORIGIN_TRUNCATED', `${task.id}: the host that read it for all is gone: ${why}`)
    }
    const lent: Lent = { lead, whole: false }
    this.#lastFrom.set(task.id, lent)
    parts.log.debug({ taskId: task.id, peer, from }, 'read through the host that reads the origin')
    async function* stream(): AsyncGenerator<Uint8Array> {
      lending.set(task.id, (lending.get(task.id) ?? 0) + 1)
      parts.lends(peer, task.id, true)
      try {
        if (host === undefined) throw new DarnerError('PEER_UNREACHABLE', `${peer} has left`)
        const pass = ownPass(task, { place: placeOf(origin), anybody: false }, parts)
        const { traffic, clock } = parts
        const reading = { address: host, exchange: parts.exchange(), traffic, clock, signal }
        for await (const { body } of lentPieces({ task, from: first, pass }, reading)) yield body
        lent.whole = first === 0
      } catch (error) {
        outer.throwIfAborted()
        throw gone(error)
      } finally {
        const left = (lending.get(task.id) ?? 1) - 1
        if (left > 0) lending.set(task.id, left)
        else {
          lending.delete(task.id)
          parts.lends(peer, task.id, false)
        }
      }
    }
    return {
      from: first * task.pieceBytes,
      bytes: task.bytes,
      stream: stream(),
      [Symbol.asyncDispose]: async () => closed.abort(new DarnerError('CLOSED', 'the read was closed')),
    }
  }
}

function keyOf(origin: Origin, digest: Digest): string {
  return `${placeOf(origin)} ${digest}`
}
