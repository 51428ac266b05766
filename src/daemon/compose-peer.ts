/** Composition root of the swarm side of `darner agent`. */
import { hostname } from 'node:os'
import { join } from 'node:path'
import { authorityIn, type Mirror, mirrorTls, openMirror, openPeer, type Peer, RateLimits } from '../../peer/index.ts'
import type { AgentSettings } from '../core/config/schema.ts'
import { asDarnerError, errorLine } from '../core/errors.ts'
import { parseHostPort } from '../core/host-port.ts'
import { type Log, roomLog } from '../core/log.ts'
import { ownVersion } from '../core/own-version.ts'
import type { Scope } from '../core/scope.ts'
import { OriginHttp } from '../origin/origin-http.ts'
import type { OriginClientOptions } from '../origin/registry-client.ts'
import { Database } from '../store/database.ts'
import { laneOpener } from './compose-lane.ts'
import { type ComposeParts, openShared } from './compose-shared.ts'
import { supernodeAddresses } from './find-supernode.ts'

export interface ComposedPeer {
  readonly peer: Peer
  /** The registry mirror; a string says why it is off, though it was wanted. Undefined when it wasn't. */
  readonly mirror: Mirror | string | undefined
  /** How origins are spoken to. */
  readonly originOptions: OriginClientOptions
}

/** Starts the peer with all its parts; the scope closes them. */
export async function composePeer(
  settings: AgentSettings,
  parts: ComposeParts & { scope: Scope },
): Promise<ComposedPeer> {
  const { scope, log } = parts
  const shared = await openShared(settings, parts)
  const { store, identity, node, origin, clock, random, retryMs } = shared
  const limits = scope.own(new RateLimits({ clock }))
  for (const [direction, bytesPerSec] of [
    ['in', settings.downloadRate] as const,
    ['out', settings.uploadRate] as const,
  ])
    if (bytesPerSec > 0) limits.set({ on: 'direction', direction }, { bytesPerSec })
  limits.uploadYield = settings.uploadYield
  const database = new Database<unknown>(join(settings.data, 'peer'), { valueEncoding: 'json' })
  await database.open()
  scope.defer(() => database.close())
  const peer = scope.own(
    await openPeer(
      {
        supernode: await supernodeAddresses(settings, { log: roomLog(log, 'peer'), signal: scope.signal }),
        joinToken: settings.joinToken === '' ? undefined : settings.joinToken,
        host: hostname(),
        software: `darner/${await ownVersion()}`,
        zone: settings.zone === '' ? undefined : settings.zone,
        rack: settings.rack === '' ? undefined : settings.rack,
        concurrency: settings.concurrency,
        originAttempts: settings.originRetries + 1,
        fromOrigin: 'fallback',
        scrubMs: settings.scrubInterval,
        scrubBytesPerSec: settings.scrubRate,
      },
      {
        node,
        store,
        origin,
        clock,
        random,
        log,
        retryMs,
        limits,
        origins: database,
        strays: database.sublevel<string, unknown>('strays', { valueEncoding: 'json' }),
        openExchange: laneOpener(settings.laneListen, limits, { identity, node, clock, log }),
      },
    ),
  )
  const mirror = await composeMirror(settings, peer, shared, parts)
  return { peer, mirror, originOptions: shared.originOptions }
}

/** The mirror is a service to other programs: that it can't listen is no reason to stop an agent. */
async function composeMirror(
  settings: AgentSettings,
  { engine, scheduler, rights }: Peer,
  { store, origin, originOptions, clock }: Awaited<ReturnType<typeof openShared>>,
  { scope, log: root }: { scope: Scope; log: Log },
): Promise<Mirror | string | undefined> {
  if (settings.mirror === 'off') return undefined
  const log = roomLog(root, 'peer/mirror')
  try {
    const authority = authorityIn(settings.data, { clock })
    const connect = settings.mirrorConnect
    const mirror = scope.own(
      await openMirror(
        {
          listen: settings.mirror,
          upstreams: settings.upstream,
          push: settings.mirrorPush,
          catalog: settings.mirrorCatalog,
          staleMs: settings.mirrorStaleTags,
          tls: await mirrorTls(settings.mirrorTls, parseHostPort(settings.mirror).host, authority),
          connect,
          authority: connect === 'intercept' ? await authority() : undefined,
        },
        {
          ...{ engine, scheduler, rights, store, origin, clock, log },
          http: scope.own(new OriginHttp(originOptions)),
        },
      ),
    )
    log.info({ address: mirror.address }, 'mirror listens')
    return mirror
  } catch (error) {
    const known = asDarnerError(error, `mirror at ${settings.mirror}`)
    log.error({ code: known.code, error: known.message, way: known.way }, 'mirror is off')
    return errorLine(known)
  }
}
