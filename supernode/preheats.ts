/** Preheats under way: which hosts fetch which blobs for which asker, and how far they are. Kept in memory, for a while after the end. */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../src/core/clock.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import { DarnerError } from '../src/core/errors.ts'
import type { Credential } from '../src/core/task/origin.ts'
import type { PreheatBlob, PreheatState } from '../src/protocol/preheat.ts'
import { readSelector } from '../src/protocol/preheat-selector.ts'

export interface PreheatHost {
  readonly peer: PeerId
  readonly name: string
  readonly zone: string | undefined
  readonly rack: string | undefined
}

interface HostState {
  readonly name: string
  readonly done: Set<string>
  failure: string | undefined
}

interface Job {
  readonly id: string
  readonly blobs: ReadonlyMap<string, number>
  readonly credential: Credential | undefined
  readonly hosts: ReadonlyMap<PeerId, HostState>
  readonly untilMs: number
}

const MAX_JOBS = 256
const LATE = 'not done by the deadline'
/** How long a job can be asked about after its deadline. */
const KEPT_MS = 60_000
const MAX_FAILURES = 64

export class Preheats {
  readonly #clock: Clock
  readonly #jobs = new Map<string, Job>()

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Throws LIMIT_EXCEEDED when too many run. */
  add(
    blobs: readonly PreheatBlob[],
    hosts: readonly PreheatHost[],
    options: { credential: Credential | undefined; deadlineMs: number },
  ): string {
    const now = this.#clock.monotonicMs()
    for (const [id, job] of this.#jobs) if (job.untilMs + KEPT_MS < now) this.#jobs.delete(id)
    if (this.#jobs.size >= MAX_JOBS)
      throw new DarnerError('LIMIT_EXCEEDED', `${this.#jobs.size} preheats run already`, {
        way: 'try again when some are done',
      })
    const id = randomBytes(12).toString('base64url')
    this.#jobs.set(id, {
      id,
      blobs: new Map(blobs.map(({ digest, bytes }) => [digest, bytes])),
      credential: options.credential,
      hosts: new Map(hosts.map(({ peer, name }) => [peer, { name, done: new Set<string>(), failure: undefined }])),
      untilMs: now + options.deadlineMs,
    })
    return id
  }

  /** The credential with which a host may read a blob of a running preheat that it was asked to fetch. */
  credentialFor(id: string, peer: PeerId, digest: string | undefined): Credential | undefined {
    const job = this.#jobs.get(id)
    if (job === undefined || digest === undefined || job.untilMs < this.#clock.monotonicMs()) return undefined
    return job.hosts.has(peer) && job.blobs.has(digest) ? job.credential : undefined
  }

  note(id: string, peer: PeerId, digest: string, error: string | undefined): void {
    const job = this.#jobs.get(id)
    const host = job?.hosts.get(peer)
    if (host === undefined || !job?.blobs.has(digest)) return
    if (error === undefined) host.done.add(digest)
    else host.failure ??= error
  }

  /** A host left the swarm: it will report no more. */
  gone(peer: PeerId): void {
    for (const { hosts, blobs } of this.#jobs.values()) {
      const host = hosts.get(peer)
      if (host !== undefined && host.done.size < blobs.size) host.failure ??= 'the host left the swarm'
    }
  }

  /** Throws NOT_FOUND for an id that is none, or over for long. */
  state(id: string): PreheatState {
    const job = this.#jobs.get(id)
    if (job === undefined) throw new DarnerError('NOT_FOUND', `preheat ${id} is not running`)
    const each = [...job.blobs.values()].reduce((sum, bytes) => sum + bytes, 0)
    const hosts = [...job.hosts.values()]
    const have = hosts.reduce(
      (sum, { done }) => sum + [...done].reduce((own, one) => own + (job.blobs.get(one) ?? 0), 0),
      0,
    )
    const ready = hosts.filter(({ done }) => done.size === job.blobs.size).length
    const failed = hosts.filter(({ failure }) => failure !== undefined)
    const over = ready + failed.length === hosts.length
    const late = !over && this.#clock.monotonicMs() > job.untilMs
    const told = late ? hosts.filter(({ done }) => done.size < job.blobs.size) : failed
    return {
      id,
      state: over ? (failed.length > 0 ? 'failed' : 'done') : late ? 'late' : 'running',
      hosts: hosts.length,
      ready,
      bytes: each * hosts.length,
      have,
      failures: told
        .slice(0, MAX_FAILURES)
        .map(({ name, failure }) => ({ host: name.slice(0, 128), why: (failure ?? LATE).slice(0, 512) })),
    }
  }
}

/** The hosts that a selector means, as `preheat-selector.ts` reads it. Throws BAD_ARGUMENT. */
export function selectHosts<H extends PreheatHost>(hosts: Iterable<H>, selector: string): H[] {
  const conditions = readSelector(selector).map(({ key, wanted }) => {
    const parts = wanted.split('*')
    return (host: PreheatHost) =>
      matches((key === 'host' ? host.name : key === 'zone' ? host.zone : host.rack) ?? '', parts)
  })
  return [...hosts].filter((host) => conditions.every((holds) => holds(host)))
}

/** A glob of literal parts with anything between them. */
function matches(text: string, parts: readonly string[]): boolean {
  const [first = '', ...rest] = parts
  const last = rest.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first)) return false
  let at = first.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return text.length - last.length >= at && text.endsWith(last)
}
