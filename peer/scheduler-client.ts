/**
 * SchedulerPort over a control session. One session at a time; when it is lost the client dials again with growing waits,
 * tells what this host holds, and registers again every task that is still followed, so that a restart of the supernode loses
 * no download.
 */
import type { Clock, Random } from '../src/base/clock.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../src/base/errors.ts'
import { Feed } from '../src/base/feed.ts'
import type { Log } from '../src/base/log.ts'
import type { Scope } from '../src/base/scope.ts'
import { abortable, withDeadline } from '../src/base/signals.ts'
import type { ManifestAnswer, ManifestRequest } from '../src/contracts/content.ts'
import type { PeerId } from '../src/contracts/exchange.ts'
import type {
  Parent,
  Progress,
  RegisterRequest,
  Registration,
  SchedulerPort,
  TaskUpdate,
} from '../src/contracts/scheduling.ts'
import type { Node } from '../src/net/node.ts'
import { openSession } from '../src/net/protocol.ts'
import type { Session } from '../src/net/session.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { Store } from '../src/store/store.ts'
import type { Task, TaskId } from '../src/task/task.ts'
import {
  type AgentNotice,
  CONTROL,
  CONTROL_VERSION,
  type ControlAnswer,
  type ControlAsk,
  INVENTORY_RUN,
  type ParentBody,
  PUT_MS,
  REGISTER_MS,
  type SupernodeNotice,
} from '../src/wire/control.ts'
import { scopeOfPass } from '../src/wire/pass.ts'
import type { PreheatNotice, PreheatState } from '../src/wire/preheat.ts'
import { failureError, failureOf } from '../src/wire/session.ts'

export interface SchedulerClientOptions {
  /** Multiaddrs of the supernode, each ending in its `/p2p/ID`. */
  readonly supernode: readonly string[]
  readonly joinToken: string | undefined
  readonly host: string
  readonly software: string
  readonly zone: string | undefined
  readonly rack: string | undefined
  /** First and longest wait between attempts to connect; doubled in between, with jitter. */
  readonly retryMs: readonly [first: number, most: number]
  readonly helloMs: number
}

export interface SchedulerClientParts {
  readonly node: Node
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** What this host announces: its bulk lanes. */
  readonly lanes: readonly string[]
  /** Peers that must not be served or asked any more. */
  readonly revoked: (peers: readonly PeerId[]) => void
  /** Blobs to fetch ahead. */
  readonly preheat?: (notice: PreheatNotice) => void
  /** Peers that may be served and asked again. */
  readonly allowed: (peers: readonly PeerId[]) => void
}

/** Updates that a stuck consumer may leave unread. */
const MAX_UPDATES = 65_536

/** Updates of one task that may arrive before the answer that they belong to. */
const MAX_EARLY = 4096

/** Reads at origins that a supernode which comes back is told of. */
const MAX_UNHEARD = 1024

/** Tasks whose pass is remembered; of older ones it isn't known under which scope they are held. */
const MAX_SCOPES = 16_384

interface Followed {
  readonly request: RegisterRequest
  readonly task: Task
  readonly updates: Feed<TaskUpdate>
}

type Control = Session<typeof CONTROL>

export class SchedulerClient implements SchedulerPort {
  readonly supernode: PeerId
  readonly #options: SchedulerClientOptions
  readonly #parts: SchedulerClientParts
  /** More than one reader may follow a task (never at once for one digest, but URL tasks may meet in one id). */
  readonly #followed = new Map<TaskId, Set<Followed>>()
  /** What was told of tasks while an answer is awaited that may turn out to be about them. */
  readonly #early = new Map<TaskId, TaskUpdate[]>()
  #asking = 0
  readonly #unheard: AgentNotice<'strayed'>[] = []
  readonly #scopes = new Map<TaskId, string>()
  #session: Control | undefined
  #joined = Promise.withResolvers<void>()
  #refused: DarnerError | undefined
  #lost: DarnerError | undefined

  constructor(options: SchedulerClientOptions, parts: SchedulerClientParts) {
    this.#options = options
    this.#parts = parts
    this.#joined.promise.catch(() => {})
    this.supernode = supernodeId(options.supernode)
  }

  /** The scope of the last pass that we were given for a task, in this run; see `opens` in src/wire/pass.ts. */
  heldUnder(task: TaskId): string | undefined {
    return this.#scopes.get(task)
  }

  get connected(): boolean {
    return this.#session !== undefined
  }

  /** What stands in the way of a session now; undefined while there is one. */
  get trouble(): DarnerError | undefined {
    return this.connected ? undefined : (this.#refused ?? this.#lost)
  }

  /** Keeps a session until the scope ends. A refusal is retried slowly: a token may be corrected at the supernode. */
  start(scope: Scope): void {
    scope.run((signal) => this.#stay(signal))
  }

  async ready({ signal }: { signal: AbortSignal }): Promise<void> {
    if (this.connected) return
    try {
      await abortable(this.#joined.promise, signal)
    } catch (error) {
      if (this.connected) return
      if (this.#refused !== undefined) throw this.#refused
      if (error instanceof Error && error.name === 'TimeoutError') {
        const where = this.#options.supernode.join(', ')
        throw new DarnerError(
          'SUPERNODE_UNREACHABLE',
          `no session with the supernode at ${where}${this.#lost === undefined ? '' : `: ${this.#lost.message}`}`,
          {
            cause: this.#lost ?? error,
            way: 'check that it runs and that its address is right',
          },
        )
      }
      throw error
    }
  }

  async register(request: RegisterRequest, { signal }: { signal: AbortSignal }): Promise<Registration> {
    const session = this.#need()
    this.#asking++
    try {
      const answer = await this.#ask(session, request, signal)
      const task = taskOf(answer)
      this.#noteScope(task.id, answer.pass)
      const followed: Followed = { request, task, updates: new Feed(MAX_UPDATES) }
      const all = this.#followed.get(task.id) ?? new Set()
      all.add(followed)
      this.#followed.set(task.id, all)
      this.#deliver(followed, answer)
      // notices may come with the answer, or before it
      for (const update of this.#early.get(task.id) ?? []) followed.updates.push(update)
      return this.#registration(followed, answer)
    } finally {
      if (--this.#asking === 0) this.#early.clear()
    }
  }

  async manifest(request: ManifestRequest, { signal }: { signal: AbortSignal }): Promise<ManifestAnswer> {
    const { origin, reference, credential, staleMs } = request
    const answer = await this.#need().ask(
      'manifest',
      {
        upstream: origin.upstream,
        repository: origin.repository,
        reference,
        ...(credential === undefined ? {} : { credential }),
        ...(staleMs === undefined ? {} : { staleMs }),
      },
      { signal, timeoutMs: REGISTER_MS },
    )
    const { mediaType, body, ageMs } = answer
    return { digest: answer.digest as Digest, mediaType, body, ...(ageMs === undefined ? {} : { ageMs }) }
  }

  /** Tells the supernode all that is held here, when there is one to tell; a new session begins with it anyway. */
  async announce({ signal }: { signal: AbortSignal }): Promise<void> {
    const session = this.#session
    if (session === undefined) return
    try {
      await this.#inventory(session, signal)
    } catch (error) {
      signal.throwIfAborted()
      this.#parts.log.debug({ error: asDarnerError(error, 'inventory').message }, 'inventory not told')
    }
  }

  /** Who read how much of a task at its origin, and why, as the supernode has it on record. */
  async why(task: TaskId, { signal }: { signal: AbortSignal }): Promise<ControlAnswer<'why'>['rows']> {
    const { rows } = await this.#need().ask('why', { task }, { signal })
    return rows
  }

  /** Gives a blob that is held here to all hosts of the swarm; resolves once the supernode has it too. */
  async put(digest: Digest, bytes: number, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#need().ask('put', { digest, bytes }, { signal, timeoutMs: PUT_MS })
  }

  /** Has the supernode bring blobs to hosts; resolves with the preheat's id. */
  async preheat(ask: ControlAsk<'preheat'>, { signal }: { signal: AbortSignal }): Promise<string> {
    return (await this.#need().ask('preheat', ask, { signal })).id
  }

  async preheatState(id: string, { signal }: { signal: AbortSignal }): Promise<PreheatState> {
    return await this.#need().ask('preheatState', { id }, { signal })
  }

  /** Tells of one blob of a preheat: here, or why not. */
  preheated(id: string, digest: string, error: string | undefined): void {
    this.#tell('preheated', { id, digest, ...(error === undefined ? {} : { error }) })
  }

  forget(tasks: readonly TaskId[]): void {
    for (let at = 0; at < tasks.length; at += INVENTORY_RUN)
      this.#tell('forget', { tasks: tasks.slice(at, at + INVENTORY_RUN) })
  }

  /** Bytes that this host read at an origin on its own. */
  strayed(task: TaskId, bytes: number, reason: string): void {
    const body = { task, bytes, reason: reason.slice(0, 512) }
    // what is read while there is no supernode is told to the next one
    if (this.#session === undefined) this.#unheard.splice(0, Math.max(0, this.#unheard.length - MAX_UNHEARD + 1))
    if (this.#session === undefined) this.#unheard.push(body)
    else this.#tell('strayed', body)
  }

  async #stay(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#parts
    const [first, most] = this.#options.retryMs
    for (let waitMs = first; ; waitMs = Math.min(most, waitMs * 2)) {
      try {
        await using session = await this.#join(signal)
        waitMs = first
        const why = await abortable(session.closed, signal)
        this.#leave(asDarnerError(why, 'control session'))
        log.warn({ supernode: this.supernode, error: why.message }, 'supernode lost')
      } catch (error) {
        if (signal.aborted) {
          for (const all of this.#followed.values())
            for (const one of all) one.updates.fail(new DarnerError('CLOSED', 'the agent is stopping'))
          return
        }
        const known = asDarnerError(error, 'joining the supernode')
        const refused = isDarnerError(known, 'ADMISSION_REFUSED')
        if (known.message !== this.trouble?.message)
          log.warn(
            { supernode: this.supernode, error: known.message, code: known.code },
            refused ? 'supernode refused us' : 'supernode not reached',
          )
        if (refused) {
          this.#refused = known
          this.#joined.reject(known)
          this.#joined = Promise.withResolvers()
          this.#joined.promise.catch(() => {})
        } else {
          this.#refused = undefined
          this.#lost = known
        }
      }
      await clock.sleep(waitMs * (0.5 + random()), { signal }).catch(() => {})
    }
  }

  async #join(signal: AbortSignal): Promise<Control> {
    const { node, lanes, log } = this.#parts
    const { host, software, zone, rack, joinToken, helloMs } = this.#options
    const deadline = withDeadline(signal, helloMs)
    const session = await openSession(
      node,
      this.#options.supernode,
      CONTROL,
      { notices: this.#notices() },
      { signal: deadline },
    )
    try {
      const hello = await session.ask(
        'hello',
        {
          version: CONTROL_VERSION,
          software,
          host,
          lanes: [...lanes],
          multiaddrs: [...node.multiaddrs],
          ...(joinToken === undefined ? {} : { token: joinToken }),
          ...(zone === undefined ? {} : { zone }),
          ...(rack === undefined ? {} : { rack }),
        },
        { signal: deadline, timeoutMs: helloMs },
      )
      await this.#inventory(session, deadline)
      this.#session = session
      this.#refused = undefined
      this.#lost = undefined
      this.#joined.resolve()
      log.info({ supernode: this.supernode, version: hello.version }, 'joined the supernode')
      for (const body of this.#unheard.splice(0)) this.#tell('strayed', body)
      for (const all of this.#followed.values())
        for (const followed of all) void this.#rejoin(session, followed, signal)
      return session
    } catch (error) {
      await session.close()
      throw error
    }
  }

  #leave(why: DarnerError): void {
    this.#session = undefined
    this.#lost = why
    this.#joined = Promise.withResolvers()
    this.#joined.promise.catch(() => {})
  }

  /** Everything held here, so that a supernode that has just started can name us as a parent. */
  async #inventory(session: Control, signal: AbortSignal): Promise<void> {
    const holdings = []
    for (const stored of this.#parts.store.tasks()) {
      const { task, have } = stored
      const complete = stored.state === 'complete'
      if (have.count === 0) continue
      holdings.push({
        task: task.id,
        ...(task.digest === undefined ? {} : { digest: task.digest }),
        bytes: task.bytes,
        pieceBytes: task.pieceBytes,
        have: complete ? new Uint8Array() : have.toBytes(),
        complete,
      })
    }
    for (let at = 0; at < holdings.length; at += INVENTORY_RUN) {
      await session.ask('inventory', { holdings: holdings.slice(at, at + INVENTORY_RUN) }, { signal })
    }
  }

  async #rejoin(session: Control, followed: Followed, signal: AbortSignal): Promise<void> {
    try {
      const have = this.#parts.store.find(followed.task.id)?.have
      const answer = await this.#ask(session, { ...followed.request, ...(have === undefined ? {} : { have }) }, signal)
      if (answer.task !== followed.task.id) {
        followed.updates.push({
          kind: 'failed',
          error: new DarnerError(
            'ORIGIN_CHANGED',
            `${followed.task.id}: the content at the origin has changed meanwhile`,
          ),
        })
        return
      }
      this.#noteScope(followed.task.id, answer.pass)
      followed.updates.push({ kind: 'pass', pass: answer.pass })
      this.#deliver(followed, answer)
      followed.updates.push({ kind: 'rejoined' })
    } catch (error) {
      if (session.over !== undefined || signal.aborted) return
      followed.updates.push({ kind: 'failed', error: asDarnerError(error, followed.task.id) })
    }
  }

  async #ask(session: Control, request: RegisterRequest, signal: AbortSignal): Promise<ControlAnswer<'register'>> {
    const { origin, digest, bytes, credential, priority, have, preheat } = request
    return await session.ask(
      'register',
      {
        origin,
        priority,
        ...(digest === undefined ? {} : { digest }),
        ...(bytes === undefined ? {} : { bytes }),
        ...(credential === undefined ? {} : { credential }),
        ...(have === undefined ? {} : { have: have.toBytes() }),
        ...(preheat === undefined ? {} : { preheat }),
      },
      { signal, timeoutMs: REGISTER_MS },
    )
  }

  #deliver(followed: Followed, answer: ControlAnswer<'register'>): void {
    const { updates } = followed
    if (answer.table.byteLength > 0) updates.push({ kind: 'table', from: 0, digests: answer.table })
    if (answer.sealed !== undefined) updates.push({ kind: 'sealed', digest: answer.sealed as Digest })
    if (answer.parents.length > 0) updates.push({ kind: 'parents', add: answer.parents.map(parentOf), drop: [] })
  }

  #registration(followed: Followed, answer: ControlAnswer<'register'>): Registration {
    const { task, updates } = followed
    return {
      task,
      inline: answer.inline,
      pass: answer.pass,
      updates,
      report: (progress: Progress) => {
        this.#tell('progress', {
          task: task.id,
          runs: progress.runs.slice(0, 4096).map(([from, count]) => [from, count] as [number, number]),
          complete: progress.complete,
          from: progress.from,
        })
      },
      unsourced: (error) =>
        this.#tell('unsourced', { task: task.id, error: failureOf(asDarnerError(error, 'reading the origin')) }),
      blame: (parent, code, piece) =>
        this.#tell('blame', { task: task.id, parent, code, ...(piece === undefined ? {} : { piece }) }),
      [Symbol.asyncDispose]: async () => {
        const all = this.#followed.get(task.id)
        all?.delete(followed)
        updates.end()
        if (all?.size !== 0) return
        this.#followed.delete(task.id)
        this.#tell('left', { task: task.id })
      },
    }
  }

  #notices() {
    const each = (task: string, update: TaskUpdate) => {
      const id = task as TaskId
      for (const followed of this.#followed.get(id) ?? []) followed.updates.push(update)
      if (this.#asking === 0) return
      const early = this.#early.get(id) ?? []
      early.push(update)
      if (early.length <= MAX_EARLY) this.#early.set(id, early)
    }
    return {
      parents: (body: { task: string; add: ParentBody[]; drop: string[] }) =>
        each(body.task, { kind: 'parents', add: body.add.map(parentOf), drop: body.drop as PeerId[] }),
      table: (body: { task: string; from: number; digests: Uint8Array }) =>
        each(body.task, { kind: 'table', from: body.from, digests: body.digests }),
      sealed: (body: { task: string; digest: string }) =>
        each(body.task, { kind: 'sealed', digest: body.digest as Digest }),
      pass: (body: { task: string; pass: Uint8Array }) => {
        this.#noteScope(body.task as TaskId, body.pass)
        each(body.task, { kind: 'pass', pass: body.pass })
      },
      lease: (body: SupernodeNotice<'lease'>) => each(body.task, { kind: 'lease', from: body.from, open: body.open }),
      failed: (body: SupernodeNotice<'failed'>) =>
        each(body.task, { kind: 'failed', error: failureError(body.error, body.task) }),
      preheat: (body: PreheatNotice) => this.#parts.preheat?.(body),
      revoked: (body: { peers: string[] }) => this.#parts.revoked(body.peers as PeerId[]),
      allowed: (body: { peers: string[] }) => this.#parts.allowed(body.peers as PeerId[]),
    }
  }

  #noteScope(task: TaskId, pass: Uint8Array): void {
    this.#scopes.delete(task)
    this.#scopes.set(task, scopeOfPass(pass))
    const [oldest] = this.#scopes.keys()
    if (this.#scopes.size > MAX_SCOPES && oldest !== undefined) this.#scopes.delete(oldest)
  }

  #need(): Control {
    if (this.#session !== undefined) return this.#session
    throw this.trouble ?? new DarnerError('SUPERNODE_UNREACHABLE', `no session with the supernode ${this.supernode}`)
  }

  /** Sends a notice; one that can't be sent is dropped, since the next session begins with a full inventory. */
  #tell: Control['tell'] = async (notice, body) => {
    try {
      await this.#session?.tell(notice, body)
    } catch (error) {
      this.#parts.log.debug({ notice, error: asDarnerError(error, notice).message }, 'notice not sent')
    }
  }
}

function taskOf(answer: ControlAnswer<'register'>): Task {
  return {
    id: answer.task as TaskId,
    bytes: answer.bytes,
    pieceBytes: answer.pieceBytes,
    ...(answer.digest === undefined ? {} : { digest: answer.digest as Digest }),
  }
}

function parentOf(body: ParentBody): Parent {
  return { ...body, peer: body.peer as PeerId }
}

/** The PeerId that the addresses agree on. Throws BAD_ARGUMENT where they name none, or several. */
function supernodeId(addresses: readonly string[]): PeerId {
  const ids = new Set(addresses.map((address) => /\/p2p\/([A-Za-z0-9]{1,128})$/.exec(address)?.[1]))
  const [id] = ids
  if (ids.size !== 1 || id === undefined) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `supernode address ${JSON.stringify(addresses.join(', '))} doesn't end in one /p2p/PEERID`,
      {
        way: 'use the line that "darner supernode" prints when it is ready',
      },
    )
  }
  return id as PeerId
}
