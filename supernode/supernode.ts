/** The supernode: joins scheduler, seed and control sessions into one room with a beginning and an end. */
import type { Clock, Random } from '../src/core/clock.ts'
import type { PeerId, PieceExchange, Shelf } from '../src/core/contracts/exchange.ts'
import type { OriginPort } from '../src/core/contracts/origin.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import { roomLog } from '../src/core/log.ts'
import { Scope } from '../src/core/scope.ts'
import type { TaskId } from '../src/core/task/task.ts'
import { HANDOUT_DEFAULTS } from '../src/exchange/handout/handout.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { CredentialNames } from '../src/rights/credential-names.ts'
import { Rights } from '../src/rights/right.ts'
import type { Store } from '../src/store/store.ts'
import { type Admission, openAdmission } from './admission.ts'
import { Control } from './control.ts'
import { Followers } from './followers.ts'
import { Leads } from './leads.ts'
import { Preheats } from './preheats.ts'
import { Puts } from './puts.ts'
import { SchedulerLoop } from './scheduler/loop.ts'
import { AccessBook, accessAtMs } from './seed/access-book.ts'
import { Manifests } from './seed/manifests.ts'
import { Seed } from './seed/seed.ts'
import { SeedShelf } from './seed/seed-shelf.ts'
import { sharedOrigin } from './seed/shared-origin.ts'
import { MOST_UNHELD, type Records, sweepRecords, UNHELD_MS } from './sweep-records.ts'
import { Traffic } from './traffic.ts'
import { WhyBook, whyAtMs } from './why.ts'

/** How often records of what is no longer here are looked at. */
const SWEEP_MS = 3_600_000

export interface SupernodeOptions {
  /** Undefined admits anybody. */
  readonly joinToken: string | undefined
  /** PeerIds that join without it. */
  readonly allow: readonly PeerId[]
  readonly originAttempts: number
  readonly maxTaskBytes: number
}

export interface SupernodeParts {
  readonly node: Node
  readonly identity: Identity
  readonly store: Store
  readonly origin: OriginPort
  /** Opens the serving half of the piece exchange over this shelf. */
  readonly openExchange: (shelf: Shelf, admit: (peer: PeerId) => boolean) => Promise<PieceExchange>
  /** Small durable records: rights to read, and why bytes were read. */
  readonly records: (name: 'access' | 'why' | 'revoked' | 'allowed') => Records
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
}

export interface Supernode extends AsyncDisposable {
  readonly peer: PeerId
  /** Where agents join: multiaddrs that end in `/p2p/ID`. */
  readonly multiaddrs: readonly string[]
  /** Where the seed's bulk lanes listen. */
  readonly lanes: readonly string[]
  readonly control: Control
  readonly seed: Seed
  readonly loop: SchedulerLoop
  readonly followers: Followers
  readonly why: WhyBook
  readonly traffic: Traffic
  /** Resolves with the first failure of a background part. */
  readonly failed: Promise<unknown>
  readonly admission: Admission
}

/** Starts a supernode; it serves once this resolves. Dispose it to stop: sessions are closed, reads at origins end. */
export async function openSupernode(options: SupernodeOptions, parts: SupernodeParts): Promise<Supernode> {
  const { node, identity, store, origin, clock, random, log, retryMs, records } = parts
  const scope = new Scope()
  try {
    const names = new CredentialNames()
    const rights = new Rights({ clock })
    const followers = new Followers({ clock })
    const why = new WhyBook(records('why'))
    const traffic = new Traffic()
    const admission = await openAdmission(
      { token: options.joinToken, allow: options.allow },
      { expelled: records('revoked'), allowed: records('allowed') },
    )
    const access = new AccessBook(records('access'), { clock })
    const leads = new Leads({
      ...{ node, identity, traffic, clock, log: roomLog(log, 'supernode/leads'), signal: scope.signal },
      origin: sharedOrigin(origin),
      exchange: () => exchange,
      host: (peer) => control.hosts.get(peer),
      lends: (peer, task, on) => control.lends(peer, task, on),
      liar: (peer, task) => control.lied(peer, task),
    })
    const seed: Seed = new Seed(
      {
        attempts: options.originAttempts,
        ingestDepth: 3,
        maxTaskBytes: options.maxTaskBytes,
        validatorMs: 5_000,
        rivalMs: 2_000,
      },
      {
        store,
        origin: leads.origin,
        access,
        rights,
        clock,
        random,
        retryMs,
        scope,
        log: roomLog(log, 'supernode/seed'),
      },
      {
        known: (task, from, count) => {
          shelf.known(task, from, count)
          control.registrations.known(task)
        },
        sealed: (task, digest) => {
          leads.ended(task.task.id, undefined)
          control.registrations.sealed(task, digest)
        },
        failed: (task, error) => {
          leads.ended(task.task.id, error)
          shelf.failed(task, error)
          control.registrations.failed(task.task.id, error)
        },
        lend: (task, open, failure, context) => control.lend(task, open, failure, context),
        read: (task, bytes, reason) => {
          if (leads.lends(task)) return
          traffic.origin += bytes
          why.add(task, node.peerId, bytes, reason, clock.now())
        },
      },
    )
    const shelf = new SeedShelf(
      { issuer: node.peerId, handout: HANDOUT_DEFAULTS },
      {
        clock,
        find: (id) => seed.find(id),
        admitted: (peer) => control.hosts.has(peer),
        taken: (task, peer, piece) => control.registrations.taken(task, peer, piece),
        sent: (_task, peer, bytes) => traffic.sent(peer, bytes),
      },
    )
    const exchange: PieceExchange = scope.own(await parts.openExchange(shelf, (peer) => !admission.expelled.has(peer)))
    const manifests = new Manifests(
      { tagMs: 5_000, digestMs: 10 * 60_000, cacheBytes: 64 * 1024 * 1024, originMs: 60_000 },
      { origin, clock, names },
    )
    const control: Control = new Control(
      { lanes: exchange.lanes },
      {
        node,
        identity,
        admission,
        seed,
        manifests,
        followers,
        preheats: new Preheats({ clock }),
        leads,
        puts: new Puts(
          { maxTaskBytes: options.maxTaskBytes },
          { node, identity, store, seed, access, exchange, traffic, clock },
        ),
        why,
        exchange,
        traffic,
        clock,
        random,
        signal: scope.signal,
        log: roomLog(log, 'supernode/control'),
      },
    )
    const loop = new SchedulerLoop({}, { clock, random, perform: (effect) => control.perform(effect) })
    await control.start(scope, loop)
    scope.run(async (signal) => {
      for (;;) {
        await clock.sleep(1000, { signal })
        shelf.tick()
        await why.save()
      }
    })
    scope.defer(() => why.save())
    const unforgotten = (error: unknown) =>
      log.warn({ error: asDarnerError(error, 'records').message }, 'not forgotten')
    // what is known of a blob goes with it
    const gone = (task: TaskId) => {
      seed.drop(task)
      Promise.all([access.forget(task), why.forget(task)]).catch(unforgotten)
    }
    scope.defer(store.onGone(gone))
    const held = (task: TaskId) => seed.knows(task as string as Digest) || store.find(task) !== undefined
    scope.run(async (signal) => {
      for (;;) {
        const rest = { held, beforeMs: clock.now() - UNHELD_MS, most: MOST_UNHELD }
        try {
          await sweepRecords(records('access'), { ...rest, atMs: accessAtMs })
          await sweepRecords(records('why'), { ...rest, atMs: whyAtMs })
        } catch (error) {
          signal.throwIfAborted()
          unforgotten(error)
        }
        await clock.sleep(SWEEP_MS, { signal })
      }
    })
    return {
      peer: node.peerId,
      multiaddrs: node.multiaddrs,
      lanes: exchange.lanes,
      control,
      seed,
      loop,
      followers,
      why,
      traffic,
      failed: scope.failed,
      admission,
      [Symbol.asyncDispose]: () => scope.close(),
    }
  } catch (error) {
    await scope.close()
    throw error
  }
}
