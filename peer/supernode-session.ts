/**
 * The agent's session with its supernode, one at a time. When it is lost the agent dials again with growing waits, says hello and reports
 * what it holds. Only then it counts as joined.
 */
import type { Clock, Random } from '../src/core/clock.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import { abortable, anySignal, withDeadline } from '../src/core/signals.ts'
import { CONTROL, CONTROL_VERSION } from '../src/protocol/control.ts'
import type { Node } from '../src/protocol/node.ts'
import { openSession } from '../src/protocol/open-session.ts'
import type { NoticeHandlers, Session } from '../src/protocol/session.ts'
import { Absence } from './absence.ts'

export type ControlSession = Session<typeof CONTROL>

/** A host's description of itself, and its receiver. */
export interface HostOptions {
  /** Multiaddrs of the supernode, each ending in its `/p2p/ID`. */
  readonly supernode: readonly string[]
  readonly joinToken: string | undefined
  readonly host: string
  readonly software: string
  readonly zone: string | undefined
  readonly rack: string | undefined
}

export interface SupernodeSessionOptions extends HostOptions {
  /** First and longest wait between attempts to connect; doubled in between, with jitter. */
  readonly retryMs: readonly [first: number, most: number]
  readonly helloMs: number
}

export interface SupernodeSessionParts {
  readonly node: Node
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** What this host announces: its bulk lanes. */
  readonly lanes: readonly string[]
  /** What the supernode may say. */
  readonly notices: NoticeHandlers<typeof CONTROL>
  /** Says what this host holds, before the session counts. */
  readonly greet: (session: ControlSession, signal: AbortSignal) => Promise<void>
  /** There is a session now. */
  readonly joined: (session: ControlSession, signal: AbortSignal) => void
}

export class SupernodeSession {
  readonly supernode: PeerId
  readonly #options: SupernodeSessionOptions
  readonly #parts: SupernodeSessionParts
  #session: ControlSession | undefined
  #joined = Promise.withResolvers<void>()
  #refused: DarnerError | undefined
  #lost: DarnerError | undefined
  #absence: Absence

  constructor(options: SupernodeSessionOptions, parts: SupernodeSessionParts) {
    this.#options = options
    this.#parts = parts
    this.#joined.promise.catch(() => {})
    this.supernode = supernodeId(options.supernode)
    this.#absence = new Absence({ ...parts, lost: false })
  }

  get now(): ControlSession | undefined {
    return this.#session
  }

  /** What stands in the way of a session now; undefined while there is one. */
  get trouble(): DarnerError | undefined {
    return this.#session === undefined ? (this.#refused ?? this.#lost) : undefined
  }

  /** The session; throws what stands in its way. */
  need(): ControlSession {
    if (this.#session !== undefined) return this.#session
    throw this.trouble ?? new DarnerError('SUPERNODE_UNREACHABLE', `no session with the supernode ${this.supernode}`)
  }

  /** Waits for a session. Throws SUPERNODE_UNREACHABLE, ADMISSION_REFUSED, or the signal's reason. */
  async ready({ signal }: { signal: AbortSignal }): Promise<void> {
    if (this.#session !== undefined) return
    try {
      await abortable(this.#joined.promise, signal)
    } catch (error) {
      if (this.#session !== undefined) return
      if (this.#refused !== undefined) throw this.#refused
      throw error instanceof Error && error.name === 'TimeoutError' ? this.#unreachable(error) : error
    }
  }

  /** Waits for a session no longer than this absence is worth, see absence.ts. Throws as {@link ready}. */
  async reachable({ signal }: { signal: AbortSignal }): Promise<void> {
    if (this.#session !== undefined) return
    if (this.#refused !== undefined) throw this.#refused
    const over = new AbortController()
    const either = anySignal([signal, over.signal])
    try {
      await Promise.race([abortable(this.#joined.promise, either), this.#absence.waited({ signal: either })])
    } finally {
      over.abort()
    }
    if (this.#session === undefined) throw this.#unreachable()
  }

  /** Sends a notice; one that can't be sent is dropped, since the next session begins with a full inventory. */
  readonly tell: ControlSession['tell'] = async (notice, body) => {
    try {
      await this.#session?.tell(notice, body)
    } catch (error) {
      this.#parts.log.debug({ notice, error: asDarnerError(error, notice).message }, 'notice not sent')
    }
  }

  /** Keeps a session until the signal aborts. A refusal is retried slowly: a token may be corrected at the supernode. */
  async stay(signal: AbortSignal): Promise<void> {
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
        if (signal.aborted) return
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
          this.#absence.dialFailed()
        }
      }
      await clock.sleep(waitMs * (0.5 + random()), { signal }).catch(() => {})
    }
  }

  async #join(signal: AbortSignal): Promise<ControlSession> {
    const { node, lanes, log } = this.#parts
    const { host, software, zone, rack, joinToken, helloMs } = this.#options
    const deadline = withDeadline(signal, helloMs)
    const { notices, greet } = this.#parts
    const session = await openSession(node, this.#options.supernode, CONTROL, { notices }, { signal: deadline })
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
      await greet(session, deadline)
      this.#session = session
      this.#refused = undefined
      this.#lost = undefined
      this.#joined.resolve()
      log.info({ supernode: this.supernode, version: hello.version }, 'joined the supernode')
      this.#parts.joined(session, signal)
      return session
    } catch (error) {
      await session.close()
      throw error
    }
  }

  #unreachable(cause?: Error): DarnerError {
    const where = this.#options.supernode.join(', ')
    return new DarnerError(
      'SUPERNODE_UNREACHABLE',
      `no session with the supernode at ${where}${this.#lost === undefined ? '' : `: ${this.#lost.message}`}`,
      {
        cause: this.#lost ?? cause,
        way: 'check that it runs and that its address is right',
      },
    )
  }

  #leave(why: DarnerError): void {
    this.#session = undefined
    this.#lost = why
    this.#absence = new Absence({ ...this.#parts, lost: true })
    this.#joined = Promise.withResolvers()
    this.#joined.promise.catch(() => {})
  }
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
