/** The peer: joins engine, shelf, exchange and scheduler client into one room with a beginning and an end. */
import { statfs } from 'node:fs/promises'
import type { PeerStatus } from '../src/api/peer-status.ts'
import type { Clock, Random } from '../src/core/clock.ts'
import type { PeerId, PieceExchange, Shelf } from '../src/core/contracts/exchange.ts'
import type { OriginPort } from '../src/core/contracts/origin.ts'
import type { Digest } from '../src/core/digest.ts'
import { DarnerError, systemCode } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import { roomLog } from '../src/core/log.ts'
import { Scope } from '../src/core/scope.ts'
import type { TaskId } from '../src/core/task/task.ts'
import type { RateLimits } from '../src/exchange/limits/limits.ts'
import { REPORT_PIECES } from '../src/protocol/control.ts'
import type { Node } from '../src/protocol/node.ts'
import { CameBook } from '../src/rights/came.ts'
import { Rights } from '../src/rights/right.ts'
import type { Store } from '../src/store/store.ts'
import { Engine } from './downloader/downloader.ts'
import { PLAN_DEFAULTS } from './downloader/plan.ts'
import { limitedOrigin } from './limited-origin.ts'
import { OriginBook, type OriginRecords } from './origin-book.ts'
import { type StrayRecords, Strays } from './origin-read-log.ts'
import { Preheater } from './preheat.ts'
import { PreheatRates } from './preheat-rates.ts'
import { SchedulerClient } from './scheduler-client.ts'
import { PeerShelf } from './shelf.ts'
import type { HostOptions } from './supernode-session.ts'
import { startUpkeep } from './upkeep.ts'

export interface PeerOptions extends HostOptions {
  /** Pieces in flight per task. */
  readonly concurrency: number
  readonly originAttempts: number
  readonly fromOrigin: 'never' | 'fallback'
  /** How often, and how fast, complete blobs are read to look for bit rot. */
  readonly scrubMs: number
  readonly scrubBytesPerSec: number
}

export interface PeerParts {
  readonly node: Node
  readonly store: Store
  readonly origin: OriginPort
  /** Shared with the exchange; stays its owner's. */
  readonly limits: RateLimits
  /** Small durable records. */
  readonly origins: OriginRecords
  /** Reads at origins that were not yet reported to a supernode. */
  readonly strays: StrayRecords
  readonly openExchange: (shelf: Shelf, admit: (peer: PeerId) => boolean) => Promise<PieceExchange>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
}

export interface Peer extends AsyncDisposable {
  readonly engine: Engine
  readonly scheduler: SchedulerClient
  readonly store: Store
  readonly limits: RateLimits
  readonly rights: Rights
  /** Resolves with the first failure of a background part. */
  readonly failed: Promise<unknown>
  status(): Promise<PeerStatus>
}

const SHELF_TICK_MS = 1_000

/** Starts a peer; it serves once this resolves and joins the supernode in the background. Dispose it to stop. */
export async function openPeer(options: PeerOptions, parts: PeerParts): Promise<Peer> {
  const { node, store, clock, random, log, retryMs, limits } = parts
  const origin = limitedOrigin(parts.origin, limits)
  const origins = new OriginBook(parts.origins)
  const came = new CameBook()
  const rights = new Rights({ clock })
  const scope = new Scope()
  try {
    const refused = new Set<PeerId>()
    let sent = 0
    // the shelf may be asked before there is an engine
    let beginning: (task: TaskId) => Promise<void> | undefined = () => undefined
    const shelf = new PeerShelf(
      { issuer: () => scheduler.supernode },
      {
        store,
        clock,
        random,
        admitted: (peer) => !refused.has(peer),
        came: (task) => came.of(task),
        beginning: (task) => beginning(task),
        sent: (_task, _child, bytes) => {
          sent += bytes
        },
      },
    )
    const lane = scope.own(await parts.openExchange(shelf, (peer) => !refused.has(peer)))
    const exchange = guarded(lane, refused)
    const scheduler: SchedulerClient = new SchedulerClient(
      { ...options, retryMs: [200, 2_000], helloMs: 5_000 },
      {
        node,
        store,
        clock,
        random,
        log: roomLog(log, 'peer/scheduler'),
        lanes: exchange.lanes,
        came,
        preheat: (notice) => preheater.take(notice),
        revoked: (peers) => {
          for (const peer of peers) {
            refused.add(peer)
            lane.drop(peer, 'the supernode took this peer out of the swarm')
            void node.disconnect(peer)
          }
        },
        allowed: (peers) => {
          for (const peer of peers) refused.delete(peer)
        },
      },
    )
    const strays = scope.own(
      new Strays({
        records: parts.strays,
        clock,
        log: roomLog(log, 'peer'),
        tell: (task, bytes, reason, told) => scheduler.strayed(task, bytes, reason, told),
      }),
    )
    await strays.resume()
    const engine = scope.own(
      new Engine(
        {
          maxInFlight: options.concurrency,
          inFlightBytes: PLAN_DEFAULTS.inFlightBytes,
          tickMs: 100,
          reportPieces: REPORT_PIECES,
          reportMs: 1_000,
          digestMs: 15_000,
          openRetryMs: [20, 60, 200, 500, 1_000],
          stallMs: 30_000,
          fromOrigin: options.fromOrigin,
          originAttempts: options.originAttempts,
          maxRunning: 1024,
        },
        {
          self: node.peerId,
          store,
          scheduler,
          exchange,
          origin,
          rights,
          came,
          clock,
          random,
          log: roomLog(log, 'peer/downloader'),
          retryMs,
          straying: (task, reason) => strays.begin(task, reason),
          origins: {
            of: (task) => origins.of(task),
            note: (task, from) => scope.run(() => origins.note(task, from)),
            forget: (task) => origins.forget(task),
          },
        },
      ),
    )
    beginning = (task) => engine.beginning(task as string as Digest)
    const preheater = new Preheater(
      { concurrency: 2, maxWaiting: 16_384 },
      {
        content: engine,
        rates: new PreheatRates(limits),
        report: (id, digest, error) => scheduler.preheated(id, digest, error),
        log: roomLog(log, 'peer/preheat'),
        signal: scope.signal,
      },
    )
    scheduler.start(scope)
    scope.run(async (signal) => {
      for (;;) {
        await clock.sleep(SHELF_TICK_MS, { signal })
        shelf.tick()
      }
    })
    startUpkeep(scope, options, { store, engine, scheduler, origins, clock, log: roomLog(log, 'peer') })
    return {
      engine,
      scheduler,
      store,
      limits,
      rights,
      failed: scope.failed,
      status: async () => ({
        peer: node.peerId,
        multiaddrs: node.multiaddrs,
        lanes: exchange.lanes,
        supernode: {
          peer: scheduler.supernode,
          connected: scheduler.connected,
          ...(scheduler.trouble === undefined ? {} : { trouble: scheduler.trouble.message }),
        },
        bytes: { sent },
        tasks: await tasksOf(store, engine),
      }),
      [Symbol.asyncDispose]: () => scope.close(),
    }
  } catch (error) {
    await scope.close()
    throw error
  }
}

/** The exchange without those that were taken out of the swarm. */
function guarded(exchange: PieceExchange, refused: ReadonlySet<PeerId>): PieceExchange {
  return {
    lanes: exchange.lanes,
    open: async (parent, task, options) => {
      if (refused.has(parent.peer)) throw new DarnerError('PEER_BANNED', `${parent.peer} was taken out of the swarm`)
      return await exchange.open(parent, task, options)
    },
    drop: (peer, why) => exchange.drop(peer, why),
    [Symbol.asyncDispose]: () => exchange[Symbol.asyncDispose](),
  }
}

async function tasksOf(store: Store, engine: Engine): Promise<PeerStatus['tasks']> {
  const running = new Map((await engine.running()).map((one) => [one.stored.task.id, one.describe()]))
  return await Promise.all(
    [...store.tasks()].map(async ({ task, have, state: held }) => {
      const state = running.get(task.id)
      const idle = state === undefined && held !== 'complete'
      const full = idle && !(await hasRoom(store.find(task.id)?.path, (have.size - have.count) * task.pieceBytes))
      return {
        task: task.id,
        bytes: task.bytes,
        pieces: have.size,
        have: have.count,
        complete: held === 'complete',
        ...(state === undefined ? {} : { state }),
        ...(full ? { trouble: 'the disk has no room for the rest' } : {}),
      }
    }),
  )
}

async function hasRoom(path: string | undefined, bytes: number): Promise<boolean> {
  if (path === undefined) return true
  try {
    const { bavail, bsize } = await statfs(path)
    return bavail * bsize >= bytes
  } catch (error) {
    // ENOENT: collected meanwhile
    if (systemCode(error) === 'ENOENT') return true
    throw error
  }
}
