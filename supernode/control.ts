/**
 * The supernode's side of the control sessions. It turns requests and notices of agents into events for the scheduler and requests to the
 * seed, and their decisions into answers and notices. Noise proves the identity of the asker; the seed decides what it may read.
 */
import type { Clock, Random } from '../src/core/clock.ts'
import type { PeerId, PieceExchange } from '../src/core/contracts/exchange.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, CODES, type Code, DarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import type { Scope } from '../src/core/scope.ts'
import type { TaskId } from '../src/core/task/task.ts'
import {
  type AgentNotice,
  CONTROL,
  type ControlAnswer,
  type ControlAsk,
  MAX_CONTROL_FRAME_BYTES,
} from '../src/protocol/control.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { acceptSessions } from '../src/protocol/open-session.ts'
import { failureError } from '../src/protocol/session-messages.ts'
import type { Admission } from './admission.ts'
import { CLAIMS_DEFAULTS, Claims } from './claims.ts'
import type { ControlSession, Followers } from './followers.ts'
import { type Host, Hosts } from './hosts.ts'
import type { Leads } from './leads.ts'
import { Lending } from './lending.ts'
import { type Preheats, selectHosts } from './preheats.ts'
import type { Puts } from './puts.ts'
import { Registrations } from './registrations.ts'
import type { ParentFault, SchedulerEffect } from './scheduler/events.ts'
import type { SchedulerLoop } from './scheduler/loop.ts'
import type { Manifests } from './seed/manifests.ts'
import type { Seed } from './seed/seed.ts'
import { plainText, ToldReads } from './told-reads.ts'
import type { Traffic } from './traffic.ts'
import { Trials } from './trials.ts'
import type { WhyBook } from './why.ts'

export interface ControlOptions {
  /** Addresses of the seed's own bulk lanes. */
  readonly lanes: readonly string[]
}

export interface ControlParts {
  readonly node: Node
  readonly identity: Identity
  readonly admission: Admission
  readonly seed: Seed
  readonly manifests: Manifests
  readonly followers: Followers
  readonly preheats: Preheats
  readonly puts: Puts
  readonly leads: Leads
  readonly why: WhyBook
  readonly exchange: PieceExchange
  readonly traffic: Traffic
  readonly clock: Clock
  readonly random: Random
  /** Ends what is asked on behalf of followers. */
  readonly signal: AbortSignal
  readonly log: Log
}

const FAULTS: Partial<Record<Code, ParentFault>> = {
  PIECE_DIGEST: 'corrupt',
  PROTOCOL_VIOLATION: 'corrupt',
  PIECE_SHORT: 'short',
  PIECE_ABSENT: 'absent',
  PEER_REFUSED: 'refused',
  CAPABILITY_REFUSED: 'refused',
  PEER_STALLED: 'stalled',
  PEER_SLOW: 'slow',
}

export class Control {
  readonly registrations: Registrations
  readonly #parts: ControlParts
  readonly #hosts: Hosts
  readonly #trials: Trials
  readonly #lending: Lending
  readonly #told: ToldReads
  #loop: SchedulerLoop | undefined

  constructor(options: ControlOptions, parts: ControlParts) {
    this.#parts = parts
    this.#told = new ToldReads(parts)
    const dispatch = this.#dispatch.bind(this)
    const claims = new Claims(CLAIMS_DEFAULTS, {
      proven: (task) => parts.seed.knows(task as string as Digest),
      drop: (peer, task) => {
        if (parts.followers.get(task, peer) !== undefined) return
        parts.leads.left(task, peer, true)
        dispatch({ kind: 'leftTask', task, peer })
      },
    })
    this.#hosts = new Hosts(options, { ...parts, claims, dispatch })
    const holders = (task: TaskId) => this.#loop?.state.tasks.get(task)?.full.length ?? 0
    const self = parts.node.peerId
    this.registrations = new Registrations({ ...parts, self, claims, hosts: this.#hosts, holders, dispatch })
    const shared = { ...parts, host: (peer: PeerId) => this.#hosts.get(peer), dispatch }
    this.#trials = new Trials(shared)
    this.#lending = new Lending(shared)
  }

  /** The hosts that are in the swarm now. */
  get hosts(): ReadonlyMap<PeerId, Host> {
    return this.#hosts.all
  }

  /** Accepts sessions until the scope ends. */
  async start(scope: Scope, loop: SchedulerLoop): Promise<void> {
    this.#loop = loop
    this.#trials.start(scope)
    const { node } = this.#parts
    loop.dispatch({ kind: 'peerJoined', peer: node.peerId, seed: true })
    const stop = await acceptSessions(node, CONTROL, (session) => this.#session(session))
    scope.defer(stop)
    loop.start(scope, () => {
      loop.dispatch({ kind: 'alive', peer: node.peerId })
      for (const peer of this.#hosts.all.keys()) loop.dispatch({ kind: 'alive', peer })
      this.registrations.reads()
      this.registrations.renewPasses()
      this.#parts.leads.tick()
    })
  }

  /** What the scheduler decided and no answer carries. */
  perform(effect: SchedulerEffect): void {
    const { log } = this.#parts
    switch (effect.kind) {
      case 'parents': {
        const host = this.#hosts.get(effect.peer)
        if (host === undefined) return
        const { task, add, drop } = effect
        // a host that reads with rights that nobody has seen gets the address of no other host
        if (this.#parts.followers.get(task, effect.peer) === undefined) return
        host.session
          .tell('parents', { task, add: add.flatMap((one) => this.#hosts.parent(one)), drop: [...drop] })
          .catch(() => {})
        return
      }
      case 'ban': {
        const why = this.#trials.evidence(effect.peer) ?? 'several hosts got corrupt pieces from it'
        this.#hosts
          .expel(effect.peer, { kind: 'banned', why, witnesses: effect.witnesses })
          .catch((error: unknown) => log.error({ peer: effect.peer, error }, 'ban not recorded'))
        return
      }
      case 'check':
        this.#trials.check(effect.task, effect.accused, effect.by)
        return
      case 'lease':
        log.debug({ taskId: effect.task, peer: effect.holder, why: effect.why }, 'origin lease given')
        this.#lending.leased(effect.task, effect.holder)
        return
    }
  }

  /** Takes a host out of the swarm, durably. */
  async revoke(peer: PeerId, why: string): Promise<void> {
    await this.#hosts.expel(peer, { kind: 'revoked', why, witnesses: [] })
  }

  /** What the seed reads of a blob comes from a host that reads its origin from now on, or no longer. */
  lends(peer: PeerId, task: TaskId, on: boolean): void {
    this.#dispatch({ kind: 'lends', task, peer, on })
  }

  /** A host that read an origin for all handed over other bytes than the origin has. */
  lied(peer: PeerId, task: TaskId): void {
    this.#parts.log.warn({ taskId: task, peer }, 'a host read an origin wrong')
    this.#dispatch({ kind: 'checked', accused: peer, guilty: true })
  }

  /** Lets a host join, without a token and whatever it was before. */
  async allow(peer: PeerId): Promise<void> {
    this.#loop?.state.banned.delete(peer)
    this.#trials.forget(peer)
    await this.#hosts.allow(peer)
  }

  /** As the seed asks: somebody else to read an origin. */
  readonly lend: Lending['lend'] = (...args) => this.#lending.lend(...args)

  // what agents ask and tell

  #session(session: ControlSession) {
    const { log } = this.#parts
    const peer = session.remote
    void session.closed.then((why) => this.#hosts.gone(session, why))
    const admitted = () => {
      if (this.#hosts.admitted(session)) return
      throw new DarnerError('ADMISSION_REFUSED', `${peer} has not said hello`)
    }
    const noted =
      <T>(handle: (body: T) => void) =>
      (body: T) => {
        if (this.#hosts.admitted(session)) handle(body)
      }
    return {
      handlers: {
        hello: async (body: ControlAsk<'hello'>) => {
          try {
            return this.#hosts.hello(session, body)
          } catch (error) {
            log.warn({ peer, host: body.host, error: asDarnerError(error, 'hello').message }, 'agent refused')
            throw error
          }
        },
        inventory: async (body: ControlAsk<'inventory'>) => {
          admitted()
          return this.registrations.inventory(peer, body)
        },
        register: async (body: ControlAsk<'register'>, { signal }: { signal: AbortSignal }) => {
          admitted()
          return await this.registrations.register(session, body, signal)
        },
        right: async (body: ControlAsk<'right'>, { signal }: { signal: AbortSignal }) => {
          admitted()
          return await this.registrations.right(peer, body, signal)
        },
        preheat: async (body: ControlAsk<'preheat'>) => {
          admitted()
          return this.#preheat(peer, body)
        },
        put: async (body: ControlAsk<'put'>, { signal }: { signal: AbortSignal }) => {
          admitted()
          return await this.#put(peer, body, signal)
        },
        preheatState: async (body: ControlAsk<'preheatState'>) => {
          admitted()
          return this.#parts.preheats.state(body.id)
        },
        manifest: async (body: ControlAsk<'manifest'>, { signal }: { signal: AbortSignal }) => {
          admitted()
          return await this.#manifest(body, signal)
        },
        why: async (body: ControlAsk<'why'>) => {
          admitted()
          const rows = await this.#parts.why.of(body.task as TaskId)
          return { rows: rows.slice(-256).map((row) => ({ ...row, ...this.#hosts.nameOf(row.peer) })) }
        },
      },
      notices: {
        progress: noted((body: AgentNotice<'progress'>) => this.registrations.progress(peer, body)),
        preheated: noted((body: AgentNotice<'preheated'>) =>
          this.#parts.preheats.note(body.id, peer, body.digest, body.error),
        ),
        blame: noted((body: AgentNotice<'blame'>) => {
          const code = Object.hasOwn(CODES, body.code) ? (body.code as Code) : 'PEER_UNREACHABLE'
          log.info({ taskId: body.task, peer, parent: body.parent, code, piece: body.piece }, 'parent blamed')
          if (body.piece !== undefined) this.#trials.complaint(body.task as TaskId, body.parent as PeerId, body.piece)
          this.#dispatch({
            kind: 'parentFailed',
            task: body.task as TaskId,
            peer,
            parent: body.parent as PeerId,
            reason: FAULTS[code] ?? 'unreachable',
          })
        }),
        unsourced: noted((body: AgentNotice<'unsourced'>) =>
          this.#lending.unsourced(peer, body.task as TaskId, failureError(body.error, peer)),
        ),
        left: noted((body: AgentNotice<'left'>) => this.registrations.left(session, body.task as TaskId)),
        forget: noted((body: AgentNotice<'forget'>) => this.registrations.forget(peer, body.tasks as TaskId[])),
        strayed: noted((body: AgentNotice<'strayed'>) => {
          if (!this.#told.takes(peer)) return
          const { task, bytes } = body
          const reason = plainText(body.reason)
          log.info({ taskId: task, peer, bytes, reason }, 'read at the origin without a lease')
          this.#parts.why.add(task as TaskId, peer, bytes, reason, this.#parts.clock.now())
        }),
      },
    }
  }

  #preheat(peer: PeerId, body: ControlAsk<'preheat'>): ControlAnswer<'preheat'> {
    const { preheats, log } = this.#parts
    const { upstream, repository, blobs, credential, to, deadlineMs, bytesPerSec } = body
    const hosts = selectHosts(this.#hosts.all.values(), to)
    if (hosts.length === 0)
      throw new DarnerError('NOT_FOUND', `preheat to ${JSON.stringify(to.slice(0, 120))}: no such host is in the swarm`)
    const id = preheats.add(blobs, hosts, { credential, deadlineMs })
    log.info({ preheat: id, peer, upstream, repository, blobs: blobs.length, hosts: hosts.length }, 'preheat begun')
    for (const host of hosts)
      host.session
        .tell('preheat', {
          ...{ id, upstream, repository, blobs, deadlineMs },
          ...(bytesPerSec === undefined ? {} : { bytesPerSec }),
        })
        .catch(() => preheats.gone(host.peer))
    return { id }
  }

  async #put(peer: PeerId, body: ControlAsk<'put'>, signal: AbortSignal): Promise<ControlAnswer<'put'>> {
    const host = this.#hosts.get(peer)
    if (host === undefined) throw new DarnerError('CLOSED', `${peer} has left`)
    const { puts, why, clock, log } = this.#parts
    const digest = body.digest as Digest
    const bytes = await puts.take(host, { digest, bytes: body.bytes }, { signal })
    log.info({ taskId: digest, peer, bytes: body.bytes, read: bytes }, 'blob put into the swarm')
    if (bytes > 0) why.add(digest as string as TaskId, peer, bytes, `put by ${host.name}`, clock.now())
    return {}
  }

  async #manifest(body: ControlAsk<'manifest'>, signal: AbortSignal): Promise<ControlAnswer<'manifest'>> {
    const { upstream, repository, reference, credential, staleMs } = body
    const answer = await this.#parts.manifests.get(
      {
        origin: { kind: 'registry', upstream, repository },
        reference,
        ...(credential === undefined ? {} : { credential }),
        ...(staleMs === undefined ? {} : { staleMs }),
      },
      { signal },
    )
    if (answer.body.byteLength > MAX_CONTROL_FRAME_BYTES - 4096) {
      throw new DarnerError(
        'LIMIT_EXCEEDED',
        `${upstream}/${repository}:${reference}: a manifest of ${answer.body.byteLength} bytes doesn't fit a control frame`,
      )
    }
    return answer
  }

  #dispatch(...args: Parameters<SchedulerLoop['dispatch']>): SchedulerEffect[] {
    return this.#loop?.dispatch(...args) ?? []
  }
}
