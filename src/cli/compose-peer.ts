/** Composition root of the swarm side of `darner agent`. */
import { hostname } from 'node:os'
import { openPeer, type Peer, RateLimits } from '../../peer/index.ts'
import type { Log } from '../base/log.ts'
import type { Scope } from '../base/scope.ts'
import type { AgentSettings } from '../config/schema.ts'
import { laneOpener } from './compose-lane.ts'
import { openShared, packageVersion } from './compose-shared.ts'

/** How long a task waits for the supernode before it goes to the origin itself. */
const SUPERNODE_MS = 5_000

/** Starts the peer with all its parts; the scope closes them. */
export async function composePeer(settings: AgentSettings, parts: { scope: Scope; log: Log }): Promise<Peer> {
  const { scope, log } = parts
  const { store, identity, node, origin, clock, random, retryMs } = await openShared(settings, parts)
  const limits = scope.own(new RateLimits({ clock }))
  return scope.own(
    await openPeer(
      {
        supernode: settings.supernode,
        joinToken: settings.joinToken === '' ? undefined : settings.joinToken,
        host: hostname(),
        software: `darner/${await packageVersion()}`,
        zone: settings.zone === '' ? undefined : settings.zone,
        rack: settings.rack === '' ? undefined : settings.rack,
        concurrency: settings.concurrency,
        originAttempts: settings.originRetries + 1,
        fromOrigin: 'fallback',
        supernodeMs: SUPERNODE_MS,
      },
      {
        node,
        store,
        origin,
        clock,
        random,
        log,
        retryMs,
        openExchange: laneOpener(settings.laneListen, limits, { identity, node, clock, log }),
      },
    ),
  )
}
