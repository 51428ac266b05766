/**
 * The hosts of the swarm: which have said hello, which left, which are out for good. Each change goes to the scheduler and the other hosts.
 */
import type { Clock } from '../src/core/clock.ts'
import type { PeerId, PieceExchange } from '../src/core/contracts/exchange.ts'
import { DarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import {
  CONTROL_VERSION,
  type ControlAnswer,
  type ControlAsk,
  LEAST_CONTROL_VERSION,
  type ParentBody,
} from '../src/protocol/control.ts'
import type { Node } from '../src/protocol/node.ts'
import type { Admission, Expulsion } from './admission.ts'
import type { Claims } from './claims.ts'
import type { ControlSession, Followers } from './followers.ts'
import type { Preheats } from './preheats.ts'
import type { NewParent, SchedulerEvent } from './scheduler/events.ts'

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

export interface HostsParts {
  readonly node: Node
  readonly admission: Admission
  readonly followers: Followers
  readonly claims: Claims
  readonly preheats: Preheats
  readonly exchange: PieceExchange
  readonly clock: Clock
  readonly log: Log
  readonly dispatch: (event: SchedulerEvent) => void
}

export class Hosts {
  /** Addresses of the seed's own bulk lanes. */
  readonly #lanes: readonly string[]
  readonly #parts: HostsParts
  readonly #hosts = new Map<PeerId, Host>()

  constructor(options: { lanes: readonly string[] }, parts: HostsParts) {
    this.#lanes = options.lanes
    this.#parts = parts
  }

  /** Those that are in the swarm now. */
  get all(): ReadonlyMap<PeerId, Host> {
    return this.#hosts
  }

  get(peer: PeerId): Host | undefined {
    return this.#hosts.get(peer)
  }

  /** Whether this session, and no later one of the same peer, has said hello. */
  admitted(session: ControlSession): boolean {
    return this.#hosts.get(session.remote)?.session === session
  }

  /** A host joins. Throws ADMISSION_REFUSED, UNSUPPORTED. */
  hello(session: ControlSession, body: ControlAsk<'hello'>): ControlAnswer<'hello'> {
    const { admission, clock, log } = this.#parts
    const peer = session.remote
    if (body.version < LEAST_CONTROL_VERSION)
      throw new DarnerError(
        'UNSUPPORTED',
        `agent ${peer} speaks control version ${body.version}, this supernode ${CONTROL_VERSION}`,
      )
    admission.admit(peer, body.token)
    const before = this.#hosts.get(peer)
    if (before !== undefined && before.session !== session) {
      this.gone(before.session, new DarnerError('CLOSED', 'the agent came back'))
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
    this.#parts.dispatch({
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

  /** A session ended: its host is gone, unless it has come back by another. */
  gone(session: ControlSession, why: Error): void {
    const peer = session.remote
    if (this.#hosts.get(peer)?.session !== session) return
    this.#hosts.delete(peer)
    this.#parts.followers.removeSession(session)
    this.#parts.preheats.gone(peer)
    this.#parts.claims.gone(peer)
    this.#parts.dispatch({ kind: 'peerLeft', peer })
    this.#parts.log.info({ peer, error: why.message, hosts: this.#hosts.size }, 'agent left')
  }

  /** Lets a host join, without a token and whatever it was before. */
  async allow(peer: PeerId): Promise<void> {
    const was = this.#parts.admission.expelled.has(peer)
    await this.#parts.admission.allow(peer)
    this.#parts.log.info({ peer }, 'peer allowed')
    if (was) for (const host of this.#hosts.values()) host.session.tell('allowed', { peers: [peer] }).catch(() => {})
  }

  /** Takes a host out of the swarm, durably. It is refused from now on, all others are notified, and its connections end. */
  async expel(peer: PeerId, what: Omit<Expulsion, 'atMs'>): Promise<void> {
    const { admission, clock, exchange, node, log } = this.#parts
    const expulsion = { ...what, atMs: clock.now() }
    log.warn({ peer, ...expulsion }, what.kind === 'banned' ? 'peer banned' : 'peer revoked')
    const recorded = admission.expel(peer, expulsion)
    const host = this.#hosts.get(peer)
    const error = new DarnerError('ADMISSION_REFUSED', `${peer} was ${what.kind}: ${what.why}`)
    if (host !== undefined) {
      this.gone(host.session, error)
      void host.session.close(error).then(() => node.disconnect(peer))
    } else void node.disconnect(peer)
    exchange.drop(peer, error.message)
    for (const other of this.#hosts.values()) other.session.tell('revoked', { peers: [peer] }).catch(() => {})
    await recorded
  }

  /** A parent as its child gets it; none when it has left. */
  parent({ peer, seed, turn }: NewParent): ParentBody[] {
    const { node } = this.#parts
    const told = turn === undefined ? {} : { turn }
    if (peer === node.peerId)
      return [{ peer, lanes: [...this.#lanes], multiaddrs: [...node.multiaddrs], seed: true, ...told }]
    const host = this.#hosts.get(peer)
    if (host === undefined) return []
    return [
      {
        peer,
        lanes: [...host.lanes],
        multiaddrs: [...host.multiaddrs],
        seed,
        ...told,
        ...(host.zone === undefined ? {} : { zone: host.zone }),
      },
    ]
  }

  /** What people call a host. */
  nameOf(peer: PeerId): { host?: string } {
    if (peer === this.#parts.node.peerId) return { host: 'supernode' }
    const host = this.#hosts.get(peer)
    return host === undefined ? {} : { host: host.name }
  }
}
