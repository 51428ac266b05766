/**
 * The supernode's side of the control sessions: turns what agents ask and tell into events for the scheduler and requests to
 * the seed, and what those decide into answers and notices. Who asks is proven by noise; what it may read, by the seed.
 */
import type { Clock, Random } from '../src/base/clock.ts'
import { asDarnerError, CODES, type Code, DarnerError } from '../src/base/errors.ts'
import type { Log } from '../src/base/log.ts'
import type { Scope } from '../src/base/scope.ts'
import { abortable } from '../src/base/signals.ts'
import type { PeerId, PieceExchange } from '../src/contracts/exchange.ts'
import type { Identity } from '../src/net/identity.ts'
import type { Node } from '../src/net/node.ts'
import { acceptSessions } from '../src/net/protocol.ts'
import type { Digest } from '../src/oci/digest.ts'
import { Bitmap } from '../src/task/bitmap.ts'
import { MAX_TASK_BYTES, pieceCount, type Task, type TaskId } from '../src/task/task.ts'
import {
  type AgentNotice,
  CONTROL,
  CONTROL_VERSION,
  type ControlAnswer,
  type ControlAsk,
  INLINE_BYTES,
  MAX_CONTROL_FRAME_BYTES,
  type ParentBody,
} from '../src/wire/control.ts'
import { PASS_MS, signPass } from '../src/wire/pass.ts'
import { failureError, failureOf } from '../src/wire/session.ts'
import type { Admission, Expulsion } from './admission.ts'
import type { ControlSession, Follower, Followers } from './followers.ts'
import { Lending } from './lending.ts'
import { type Preheats, selectHosts } from './preheats.ts'
import type { Puts } from './puts.ts'
import type { ParentFault, SchedulerEffect, SchedulerEvent } from './scheduler/events.ts'
import type { SchedulerLoop } from './scheduler/loop.ts'
import type { Manifests } from './seed/manifests.ts'
import type { Seed } from './seed/seed.ts'
import type { SeedTask } from './seed/seed-task.ts'
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
  readonly why: WhyBook
  readonly exchange: PieceExchange
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** A host that has said hello. */
export interface Host {
  readonly peer: PeerId
  readonly session: ControlSession
  readonly name: string
  readonly software: string
  readonly lanes: readonly string[]
  readonly multiaddrs: readonly string[]
  readonly zone: string | undefined
  readonly rack: string | undefined
  readonly sinceMs: number
}

const FAULTS: Partial<Record<Code, ParentFault>> = {
  PIECE_DIGEST: 'corrupt',
  PROTOCOL_VIOLATION: 'corrupt',
  PIECE_SHORT: 'short',
  PIECE_ABSENT: 'absent',
  PEER_REFUSED: 'refused',
  CAPABILITY_REFUSED: 'refused',
  PEER_STALLED: 'stalled',
}

export class Control {
  readonly #options: ControlOptions
  readonly #parts: ControlParts
  readonly #hosts = new Map<PeerId, Host>()
  readonly #trials: Trials
  readonly #lending: Lending
  #loop: SchedulerLoop | undefined

  constructor(options: ControlOptions, parts: ControlParts) {
    this.#options = options
    this.#parts = parts
    const shared = {
      ...parts,
      host: (peer: PeerId) => this.#hosts.get(peer),
      dispatch: (event: SchedulerEvent) => void this.#dispatch(event),
    }
    this.#trials = new Trials(shared)
    this.#lending = new Lending(shared)
  }

  /** The hosts that are in the swarm now. */
  get hosts(): ReadonlyMap<PeerId, Host> {
    return this.#hosts
  }

  /** Accepts sessions until the scope ends. */
  async start(scope: Scope, loop: SchedulerLoop): Promise<void> {
    this.#loop = loop
    this.#trials.start(scope)
    const { node } = this.#parts
    loop.dispatch({ kind: 'peerJoined', peer: node.peerId, seed: true })
    const stop = await acceptSessions(node, CONTROL, (session) => this.#session(session))
    scope.defer(stop)
    loop.start(scope, 1000, () => {
      loop.dispatch({ kind: 'alive', peer: node.peerId })
      for (const peer of this.#hosts.keys()) loop.dispatch({ kind: 'alive', peer })
      this.#renewPasses()
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
        host.session
          .tell('parents', { task, add: add.flatMap((one) => this.#parent(one)), drop: [...drop] })
          .catch(() => {})
        return
      }
      case 'ban': {
        const why = this.#trials.evidence(effect.peer) ?? 'several hosts got corrupt pieces from it'
        this.#expel(effect.peer, { kind: 'banned', why, witnesses: effect.witnesses }).catch((error: unknown) =>
          log.error({ peer: effect.peer, error }, 'ban not recorded'),
        )
        return
      }
      case 'check':
        this.#trials.check(effect.task, effect.accused, effect.by)
        return
      case 'lease':
        log.debug({ taskId: effect.task, peer: effect.holder, why: effect.why }, 'origin lease given')
        this.#lending.leased(effect.task, effect.holder)
        return
      case 'leaseEnded':
      case 'seedNeeded':
      case 'forget':
        log.debug({ effect }, 'scheduler effect')
        return
    }
  }

  /** Takes a host out of the swarm, durably: it is refused from now on, all others are told, its connections end. */
  async revoke(peer: PeerId, why: string): Promise<void> {
    await this.#expel(peer, { kind: 'revoked', why, witnesses: [] })
  }

  /** Lets a host join, without a token and whatever it was before. */
  async allow(peer: PeerId): Promise<void> {
    this.#loop?.state.banned.delete(peer)
    this.#trials.forget(peer)
    const was = this.#parts.admission.expelled.has(peer)
    await this.#parts.admission.allow(peer)
    this.#parts.log.info({ peer }, 'peer allowed')
    if (was) for (const host of this.#hosts.values()) host.session.tell('allowed', { peers: [peer] }).catch(() => {})
  }

  async #expel(peer: PeerId, what: Omit<Expulsion, 'atMs'>): Promise<void> {
    const { admission, clock, exchange, node, log } = this.#parts
    const expulsion = { ...what, atMs: clock.now() }
    log.warn({ peer, ...expulsion }, what.kind === 'banned' ? 'peer banned' : 'peer revoked')
    const recorded = admission.expel(peer, expulsion)
    const host = this.#hosts.get(peer)
    const error = new DarnerError('ADMISSION_REFUSED', `${peer} was ${what.kind}: ${what.why}`)
    if (host !== undefined) {
      this.#gone(host.session, error)
      void host.session.close(error).then(() => node.disconnect(peer))
    } else void node.disconnect(peer)
    exchange.drop(peer, error.message)
    for (const other of this.#hosts.values()) other.session.tell('revoked', { peers: [peer] }).catch(() => {})
    await recorded
  }

  /** As the seed asks: somebody else to read an origin. */
  readonly lend: Lending['lend'] = (...args) => this.#lending.lend(...args)

  // what the seed tells

  known(seed: SeedTask): void {
    this.#parts.followers.grew(seed.task.id, tableOf(seed))
    const { known, task } = seed
    // the scheduler hears of the seed's progress as of any member's
    if (known % 16 === 0 || known === pieceCount(task))
      this.#dispatch({ kind: 'progress', task: task.id, peer: this.#parts.node.peerId, have: known })
  }

  sealed(seed: SeedTask, digest: Digest): void {
    const now = this.#parts.clock.now()
    for (const follower of this.#parts.followers.of(seed.task.id)) {
      this.#parts.followers.tell(follower, tableOf(seed))
      follower.session.tell('sealed', { task: seed.task.id, digest }).catch(() => {})
      const scope = this.#parts.seed.scopeNow(seed.task.id, follower.scope)
      if (scope === follower.scope) continue
      follower.scope = scope
      // whoever has all needs it no more, and is told what it serves under by its next pass
      if (!follower.have.full) this.#renewPass(follower, now)
    }
  }

  failed(task: TaskId, error: DarnerError): void {
    for (const follower of this.#parts.followers.of(task))
      follower.session.tell('failed', { task, error: failureOf(error) }).catch(() => {})
  }

  // what agents ask and tell

  #session(session: ControlSession) {
    const { log } = this.#parts
    const peer = session.remote
    void session.closed.then((why) => this.#gone(session, why))
    const admitted = () => {
      if (this.#hosts.get(peer)?.session === session) return
      throw new DarnerError('ADMISSION_REFUSED', `${peer} has not said hello`)
    }
    const noted =
      <T>(handle: (body: T) => void) =>
      (body: T) => {
        if (this.#hosts.get(peer)?.session === session) handle(body)
      }
    return {
      handlers: {
        hello: async (body: ControlAsk<'hello'>) => {
          try {
            return this.#hello(session, body)
          } catch (error) {
            log.warn({ peer, host: body.host, error: asDarnerError(error, 'hello').message }, 'agent refused')
            throw error
          }
        },
        inventory: async (body: ControlAsk<'inventory'>) => {
          admitted()
          return this.#inventory(peer, body)
        },
        register: async (body: ControlAsk<'register'>, { signal }: { signal: AbortSignal }) => {
          admitted()
          return await this.#register(session, body, signal)
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
          return { rows: rows.slice(-256).map((row) => ({ ...row, ...this.#nameOf(row.peer) })) }
        },
      },
      notices: {
        progress: noted((body: AgentNotice<'progress'>) => this.#progress(peer, body)),
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
        left: noted((body: AgentNotice<'left'>) => {
          const task = body.task as TaskId
          const follower = this.#parts.followers.get(task, peer)
          this.#parts.followers.remove(task, peer, session)
          // what it holds whole it goes on serving
          if (follower !== undefined && !follower.have.full) this.#dispatch({ kind: 'leftTask', task, peer })
        }),
        forget: noted((body: AgentNotice<'forget'>) => {
          for (const task of body.tasks) this.#dispatch({ kind: 'leftTask', task: task as TaskId, peer })
        }),
        strayed: noted((body: AgentNotice<'strayed'>) => {
          log.info(
            { taskId: body.task, peer, bytes: body.bytes, reason: body.reason },
            'read at the origin without a lease',
          )
          this.#parts.why.add(body.task as TaskId, peer, body.bytes, body.reason, this.#parts.clock.now())
        }),
      },
    }
  }

  #hello(session: ControlSession, body: ControlAsk<'hello'>): ControlAnswer<'hello'> {
    const { admission, clock, log } = this.#parts
    const peer = session.remote
    if (body.version < 1)
      throw new DarnerError(
        'UNSUPPORTED',
        `agent ${peer} speaks control version ${body.version}, this supernode ${CONTROL_VERSION}`,
      )
    admission.admit(peer, body.token)
    const before = this.#hosts.get(peer)
    if (before !== undefined && before.session !== session) {
      this.#gone(before.session, new DarnerError('CLOSED', 'the agent came back'))
      void before.session.close()
    }
    this.#hosts.set(peer, {
      peer,
      session,
      name: body.host,
      software: body.software,
      lanes: body.lanes,
      multiaddrs: body.multiaddrs,
      zone: body.zone,
      rack: body.rack,
      sinceMs: clock.now(),
    })
    this.#dispatch({
      kind: 'peerJoined',
      peer,
      ...(body.zone === undefined ? {} : { zone: body.zone }),
      ...(body.rack === undefined ? {} : { rack: body.rack }),
    })
    const out = [...admission.expelled.keys()]
    for (let at = 0; at < out.length; at += 4096)
      session.tell('revoked', { peers: out.slice(at, at + 4096) }).catch(() => {})
    log.info({ peer, host: body.host, hosts: this.#hosts.size }, 'agent joined')
    return { version: CONTROL_VERSION, now: clock.now() }
  }

  #gone(session: ControlSession, why: Error): void {
    const peer = session.remote
    if (this.#hosts.get(peer)?.session !== session) return
    this.#hosts.delete(peer)
    this.#parts.followers.removeSession(session)
    this.#parts.preheats.gone(peer)
    this.#dispatch({ kind: 'peerLeft', peer })
    this.#parts.log.info({ peer, error: why.message, hosts: this.#hosts.size }, 'agent left')
  }

  #inventory(peer: PeerId, body: ControlAsk<'inventory'>): ControlAnswer<'inventory'> {
    for (const holding of body.holdings) {
      const pieces = pieceCount(geometry(holding))
      const have = holding.complete ? pieces : Bitmap.fromBytes(pieces, holding.have).count
      this.#dispatch({ kind: 'registered', task: holding.task as TaskId, peer, pieces, have, priority: 'background' })
    }
    return { known: body.holdings.length }
  }

  async #register(
    session: ControlSession,
    body: ControlAsk<'register'>,
    signal: AbortSignal,
  ): Promise<ControlAnswer<'register'>> {
    const { seed, followers, clock, identity, preheats } = this.#parts
    const peer = session.remote
    const digest = body.digest as Digest | undefined
    const lent = body.preheat === undefined ? undefined : preheats.credentialFor(body.preheat, peer, digest)
    const { task: held, scope } = await seed.obtain(
      { origin: body.origin, digest, bytes: body.bytes, credential: body.credential ?? lent },
      { signal },
    )
    const { task } = held
    const pieces = pieceCount(task)
    const expiresMs = clock.now() + PASS_MS
    const pass = signPass({ task: task.id, reader: peer, scope, expiresMs }, identity.sign)
    const answer = {
      task: task.id,
      bytes: task.bytes,
      pieceBytes: task.pieceBytes,
      pass,
      ...(task.digest === undefined ? {} : { digest: task.digest }),
    }
    if (task.bytes <= INLINE_BYTES) return { ...answer, ...(await inlineOf(held, signal)) }
    const have =
      body.have === undefined || body.have.byteLength !== Math.ceil(pieces / 8)
        ? undefined
        : Bitmap.fromBytes(pieces, body.have)
    const follower = followers.add({ peer, session, task, scope, tableAt: 0, passUntilMs: expiresMs }, have)
    this.#dispatch({
      kind: 'registered',
      task: task.id,
      peer: this.#parts.node.peerId,
      pieces,
      have: held.known,
      priority: 'interactive',
    })
    const effects = this.#dispatch(
      { kind: 'registered', task: task.id, peer, pieces, have: follower.have.count, priority: body.priority },
      (effect) => effect.kind === 'parents' && effect.peer === peer && effect.task === task.id,
    )
    const table = tableOf(held)
    const first = Math.min(table.known(), 4096)
    follower.tableAt = first
    if (table.known() > first) setImmediate(() => followers.tell(follower, table))
    return {
      ...answer,
      table: table.digests(0, first),
      parents: effects.flatMap((effect) =>
        effect.kind === 'parents' ? effect.add.flatMap((one) => this.#parent(one)) : [],
      ),
      ...(held.stored.complete && held.stored.digest !== undefined ? { sealed: held.stored.digest } : {}),
    }
  }

  #preheat(peer: PeerId, body: ControlAsk<'preheat'>): ControlAnswer<'preheat'> {
    const { preheats, log } = this.#parts
    const { upstream, repository, blobs, credential, to, deadlineMs } = body
    const hosts = selectHosts(this.#hosts.values(), to)
    if (hosts.length === 0)
      throw new DarnerError('NOT_FOUND', `preheat to ${JSON.stringify(to.slice(0, 120))}: no such host is in the swarm`)
    const id = preheats.add(blobs, hosts, { credential, deadlineMs })
    log.info({ preheat: id, peer, upstream, repository, blobs: blobs.length, hosts: hosts.length }, 'preheat begun')
    for (const host of hosts)
      host.session
        .tell('preheat', { id, upstream, repository, blobs, deadlineMs })
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

  #progress(peer: PeerId, body: AgentNotice<'progress'>): void {
    const task = body.task as TaskId
    const follower = this.#parts.followers.get(task, peer)
    if (follower === undefined) return
    const { have } = follower
    for (const [from, count] of body.runs) {
      if (from + count > have.size)
        throw new DarnerError('PROTOCOL_VIOLATION', `${peer} reports pieces ${from} to ${from + count} of ${have.size}`)
      have.addRange(from, count)
    }
    if (body.complete) have.addRange(0, have.size)
    this.#dispatch({ kind: 'progress', task, peer, have: have.count })
  }

  #parent({ peer, seed }: { peer: PeerId; seed: boolean }): ParentBody[] {
    const { node } = this.#parts
    if (peer === node.peerId)
      return [{ peer, lanes: [...this.#options.lanes], multiaddrs: [...node.multiaddrs], seed: true }]
    const host = this.#hosts.get(peer)
    if (host === undefined) return []
    return [
      {
        peer,
        lanes: [...host.lanes],
        multiaddrs: [...host.multiaddrs],
        seed,
        ...(host.zone === undefined ? {} : { zone: host.zone }),
      },
    ]
  }

  /** What people call a host. */
  #nameOf(peer: PeerId): { host?: string } {
    if (peer === this.#parts.node.peerId) return { host: 'supernode' }
    const host = this.#hosts.get(peer)
    return host === undefined ? {} : { host: host.name }
  }

  /** Followers get a new pass before the old one ends. */
  #renewPasses(): void {
    const { followers, clock } = this.#parts
    const now = clock.now()
    for (const follower of followers.all()) {
      if (follower.passUntilMs - now <= PASS_MS / 3) this.#renewPass(follower, now)
    }
  }

  #renewPass(follower: Follower, now: number): void {
    const { task, peer, scope, session } = follower
    follower.passUntilMs = now + PASS_MS
    const expiresMs = follower.passUntilMs
    const pass = signPass({ task: task.id, reader: peer, scope, expiresMs }, this.#parts.identity.sign)
    session.tell('pass', { task: task.id, pass }).catch(() => {})
  }

  #dispatch(...args: Parameters<SchedulerLoop['dispatch']>): SchedulerEffect[] {
    return this.#loop?.dispatch(...args) ?? []
  }
}

function geometry(holding: { task: string; bytes: number; pieceBytes: number }): Task {
  if (holding.bytes > MAX_TASK_BYTES || holding.pieceBytes < 1)
    throw new DarnerError('PROTOCOL_VIOLATION', `${holding.task}: pieces of ${holding.pieceBytes} bytes`)
  return { id: holding.task as TaskId, bytes: holding.bytes, pieceBytes: holding.pieceBytes }
}

function tableOf(seed: SeedTask): { known: () => number; digests: (from: number, count: number) => Uint8Array } {
  return { known: () => seed.known, digests: (from, count) => digestsOf(seed, from, count) }
}

/** A small blob, whole, as soon as it is verified. */
async function inlineOf(
  seed: SeedTask,
  signal: AbortSignal,
): Promise<{ inline: Uint8Array; table: Uint8Array; parents: []; sealed: string }> {
  const sealed = await abortable(seed.whole(), signal)
  const inline = new Uint8Array(seed.task.bytes)
  await seed.stored.read(0, inline)
  return { inline, table: digestsOf(seed, 0, pieceCount(seed.task)), parents: [], sealed }
}

/** Digests of pieces that are known to the seed. */
function digestsOf(seed: SeedTask, from: number, count: number): Uint8Array {
  const digests = seed.stored.table.slice(from, count)
  if (digests === undefined)
    throw new DarnerError('INTERNAL', `${seed.task.id}: no digests of pieces ${from} to ${from + count}`)
  return digests
}
