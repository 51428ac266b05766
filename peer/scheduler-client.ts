/** SchedulerPort over the control session with the supernode, and the other requests and notices of an agent. */
import type { Clock, Random } from '../src/core/clock.ts'
import type { ManifestAnswer, ManifestRequest } from '../src/core/contracts/content.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import type {
  RegisterRequest,
  Registration,
  RightAnswer,
  RightRequest,
  SchedulerPort,
} from '../src/core/contracts/scheduling.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import type { Scope } from '../src/core/scope.ts'
import type { Place } from '../src/core/task/place.ts'
import type { TaskId } from '../src/core/task/task.ts'
import {
  type AgentNotice,
  type ControlAnswer,
  type ControlAsk,
  INVENTORY_RUN,
  PUT_MS,
  REGISTER_MS,
} from '../src/protocol/control.ts'
import type { Node } from '../src/protocol/node.ts'
import { readPass } from '../src/protocol/pass.ts'
import type { PreheatNotice, PreheatState } from '../src/protocol/preheat.ts'
import type { CameBook } from '../src/rights/came.ts'
import type { Store } from '../src/store/store.ts'
import { FollowedTasks } from './followed-tasks.ts'
import { type ControlSession, SupernodeSession, type SupernodeSessionOptions } from './supernode-session.ts'

export interface SchedulerClientParts {
  readonly node: Node
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** How what is here came here. */
  readonly came: CameBook
  /** What this host announces: its bulk lanes. */
  readonly lanes: readonly string[]
  /** Peers that must not be served or asked any more. */
  readonly revoked: (peers: readonly PeerId[]) => void
  /** Blobs to fetch ahead. */
  readonly preheat?: (notice: PreheatNotice) => void
  /** Peers that may be served and asked again. */
  readonly allowed: (peers: readonly PeerId[]) => void
}

/** A read at an origin that was not yet reported to a supernode; `told` is called when it was. */
interface Unheard {
  readonly body: AgentNotice<'strayed'>
  readonly told: () => void
}

/** Reads at origins that are reported when a supernode comes back. */
const MAX_UNHEARD = 1024

export class SchedulerClient implements SchedulerPort {
  readonly #parts: SchedulerClientParts
  readonly #session: SupernodeSession
  readonly #followed: FollowedTasks
  readonly #unheard: Unheard[] = []

  constructor(options: SupernodeSessionOptions, parts: SchedulerClientParts) {
    this.#parts = parts
    this.#followed = new FollowedTasks({
      held: (task) => parts.store.find(task)?.have,
      passed: (task, pass) => {
        if (pass === undefined) return
        const empty = (parts.store.find(task)?.have.count ?? 0) === 0
        parts.came.note(task, readPass(pass), { empty })
      },
      tell: (notice, body) => this.#session.tell(notice, body),
    })
    this.#session = new SupernodeSession(options, {
      ...parts,
      notices: {
        ...this.#followed.notices(),
        preheat: (body) => parts.preheat?.(body),
        revoked: (body) => parts.revoked(body.peers as PeerId[]),
        allowed: (body) => parts.allowed(body.peers as PeerId[]),
      },
      greet: (session, signal) => this.#inventory(session, signal),
      joined: (session, signal) => {
        for (const one of this.#unheard.splice(0)) this.#hear(one)
        this.#followed.resume(session, signal)
      },
    })
  }

  get supernode(): PeerId {
    return this.#session.supernode
  }

  get connected(): boolean {
    return this.#session.now !== undefined
  }

  /** What stands in the way of a session now; undefined while there is one. */
  get trouble(): DarnerError | undefined {
    return this.#session.trouble
  }

  /** Keeps a session until the scope ends. */
  start(scope: Scope): void {
    scope.run(async (signal) => {
      await this.#session.stay(signal)
      this.#followed.fail(new DarnerError('CLOSED', 'the agent is stopping'))
    })
  }

  async ready(options: { signal: AbortSignal }): Promise<void> {
    await this.#session.ready(options)
  }

  async reachable(options: { signal: AbortSignal }): Promise<void> {
    await this.#session.reachable(options)
  }

  async register(request: RegisterRequest, options: { signal: AbortSignal }): Promise<Registration> {
    return await this.#followed.follow(this.#session.need(), request, options)
  }

  async right(request: RightRequest, { signal }: { signal: AbortSignal }): Promise<RightAnswer> {
    const { origin, digest, bytes, credential, preheat, prove } = request
    const answer = await this.#session.need().ask(
      'right',
      {
        origin,
        digest,
        prove,
        ...(bytes === undefined ? {} : { bytes }),
        ...(credential === undefined ? {} : { credential }),
        ...(preheat === undefined ? {} : { preheat }),
      },
      { signal, timeoutMs: REGISTER_MS },
    )
    return { ...answer, place: answer.place as Place }
  }

  async manifest(request: ManifestRequest, { signal }: { signal: AbortSignal }): Promise<ManifestAnswer> {
    const { origin, reference, credential, staleMs } = request
    const answer = await this.#session.need().ask(
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
    const session = this.#session.now
    if (session === undefined) return
    try {
      await this.#inventory(session, signal)
    } catch (error) {
      signal.throwIfAborted()
      this.#parts.log.debug({ error: asDarnerError(error, 'inventory').message }, 'inventory not told')
    }
  }

  /** The reads of a task at its origin, by whom and why, as the supernode has them on record. */
  async why(task: TaskId, { signal }: { signal: AbortSignal }): Promise<ControlAnswer<'why'>['rows']> {
    const { rows } = await this.#toAsk().ask('why', { task }, { signal })
    return rows
  }

  /** Gives a blob that is held here to all hosts of the swarm; resolves once the supernode has it too. */
  async put(digest: Digest, bytes: number, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#session.need().ask('put', { digest, bytes }, { signal, timeoutMs: PUT_MS })
  }

  /** Has the supernode bring blobs to hosts; resolves with the preheat's id. */
  async preheat(ask: ControlAsk<'preheat'>, { signal }: { signal: AbortSignal }): Promise<string> {
    return (await this.#toAsk().ask('preheat', ask, { signal })).id
  }

  async preheatState(id: string, { signal }: { signal: AbortSignal }): Promise<PreheatState> {
    return await this.#session.need().ask('preheatState', { id }, { signal })
  }

  /** The session for what a person asks: why there is none, and what helps. */
  #toAsk(): ControlSession {
    try {
      return this.#session.need()
    } catch (error) {
      if (!isDarnerError(error, 'PEER_UNREACHABLE', 'SUPERNODE_UNREACHABLE', 'CLOSED')) throw error
      throw noSupernode(error)
    }
  }

  /** Tells of one blob of a preheat: here, or why not. */
  preheated(id: string, digest: string, error: string | undefined): void {
    this.#tell('preheated', { id, digest, ...(error === undefined ? {} : { error }) })
  }

  forget(tasks: readonly TaskId[]): void {
    for (let at = 0; at < tasks.length; at += INVENTORY_RUN)
      this.#tell('forget', { tasks: tasks.slice(at, at + INVENTORY_RUN) })
  }

  /**
   * Bytes that this host read at an origin on its own. Calls back once they were reported to a supernode, the next one if there is none
   * now.
   */
  strayed(task: TaskId, bytes: number, reason: string, told: () => void): void {
    this.#hear({ body: { task, bytes, reason }, told })
  }

  #hear(one: Unheard): void {
    const session = this.#session.now
    const later = () => {
      for (const old of this.#unheard.splice(0, Math.max(0, this.#unheard.length - MAX_UNHEARD + 1))) old.told()
      this.#unheard.push(one)
    }
    if (session === undefined) later()
    else void session.tell('strayed', one.body).then(one.told, later)
  }

  /** Everything held here, so that a supernode that has just started can name us as a parent. */
  async #inventory(session: ControlSession, signal: AbortSignal): Promise<void> {
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

  #tell: ControlSession['tell'] = (notice, body) => this.#session.tell(notice, body)
}

/** Why the supernode can't be asked, with what to do. */
export function noSupernode(cause: DarnerError): DarnerError {
  return new DarnerError('SUPERNODE_UNREACHABLE', `the supernode can't be asked: ${cause.message}`, {
    cause,
    way: 'see that it runs and that this host reaches it; `darner status` shows which one it is',
  })
}
