/** Composition root of `darner supernode`. It gives the seed the peer's piece exchange. */
import { join } from 'node:path'
import { RateLimits } from '../../peer/index.ts'
import {
  ADMIN_SOCKET,
  adminSocket,
  joinToken,
  openSupernode,
  type Supernode,
  supernodeHttp,
} from '../../supernode/index.ts'
import type { SupernodeSettings } from '../core/config/schema.ts'
import { roomLog } from '../core/log.ts'
import { openMetrics } from '../core/metrics.ts'
import { ownVersion } from '../core/own-version.ts'
import { Scope } from '../core/scope.ts'
import { type Identity, parsePeerId } from '../protocol/identity.ts'
import { Database } from '../store/database.ts'
import { laneOpener } from './compose-lane.ts'
import { type ComposeParts, openShared } from './compose-shared.ts'

export interface RunningSupernode extends AsyncDisposable {
  readonly supernode: Supernode
  readonly http: string
  /** Routes of that HTTP side, as `METHOD /path`. */
  readonly routes: readonly string[]
  /** The identity that signs passes; for tests and tools in this process. */
  readonly identity: Identity
}

/** Starts a supernode with all its parts; it serves once this resolves. Dispose it to stop. */
export async function composeSupernode(settings: SupernodeSettings, parts: ComposeParts): Promise<RunningSupernode> {
  const { log } = parts
  const scope = new Scope()
  try {
    const shared = await openShared(settings, { ...parts, scope })
    const { store, identity, node, origin, clock, random, retryMs } = shared
    const limits = scope.own(new RateLimits({ clock }))
    limits.uploadYield = settings.uploadYield
    const token = await joinToken(settings.data)
    const database = new Database<unknown>(join(settings.data, 'state'), { valueEncoding: 'json' })
    await database.open()
    scope.defer(() => database.close())
    const supernode = scope.own(
      await openSupernode(
        {
          joinToken: settings.open ? undefined : token,
          allow: settings.allow.map(parsePeerId),
          originAttempts: settings.originRetries + 1,
          maxTaskBytes: settings.maxTaskBytes,
        },
        {
          node,
          identity,
          store,
          origin,
          clock,
          random,
          log,
          retryMs,
          records: (name) => {
            const records = database.sublevel<string, unknown>(name, { valueEncoding: 'json' })
            return {
              get: (key) => records.get(key),
              put: (key, value) => records.put(key, value),
              del: (key) => records.del(key),
              keys: () => records.keys(),
            }
          },
          openExchange: laneOpener(settings.laneListen, limits, { identity, node, clock, log }),
        },
      ),
    )
    const http = scope.own(
      await supernodeHttp(settings.listen, {
        supernode,
        metrics: openMetrics({ process: true }),
        log: roomLog(log, 'supernode/http'),
        version: await ownVersion(),
        joinToken: token,
      }),
    )
    scope.own(await adminSocket(join(settings.data, ADMIN_SOCKET), { supernode, log: roomLog(log, 'supernode/http') }))
    return { supernode, http: http.address, routes: http.routes, identity, [Symbol.asyncDispose]: () => scope.close() }
  } catch (error) {
    await scope.close()
    throw error
  }
}
