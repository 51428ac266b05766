/** What both daemons are made of: log, store, identity, node, origin client. */
import { join } from 'node:path'
import { type Clock, type Random, systemClock } from '../core/clock.ts'
import type { AgentSettings, SupernodeSettings } from '../core/config/schema.ts'
import { type Log, openLog, roomLog } from '../core/log.ts'
import { ownVersion } from '../core/own-version.ts'
import type { Scope } from '../core/scope.ts'
import { readCertsDir } from '../origin/certs-dir.ts'
import { proxyName } from '../origin/origin-http.ts'
import { proxyOfDaemon } from '../origin/proxy-env.ts'
import { createOriginClient, ORIGIN_DEFAULTS, type OriginClientOptions } from '../origin/registry-client.ts'
import { RETRY_LIMITS, retryPlan } from '../origin/retry-plan.ts'
import { originGuard } from '../origin/special-address.ts'
import { openIdentity } from '../protocol/identity.ts'
import { openNode } from '../protocol/node.ts'
import { openStore } from '../store/store.ts'
import { openDataDirectory } from './data-directory.ts'

type Settings = SupernodeSettings | AgentSettings

/** The daemon's log, on stderr: JSON in a pipe, readable on a terminal, unless the settings say otherwise. */
export async function openDaemonLog(settings: Settings): Promise<Log> {
  const terminal = process.stderr.isTTY === true
  const pretty = settings.logFormat === 'pretty' || (settings.logFormat === 'auto' && terminal)
  // https://no-color.org
  return await openLog({ level: settings.logLevel, pretty, colour: terminal && !process.env.NO_COLOR })
}

/** What a daemon is composed with. The signal ends its start only: between two steps, so that what was opened is closed again. */
export interface ComposeParts {
  readonly log: Log
  /** The daemon's environment, which may name proxies; default an empty one. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly signal?: AbortSignal
  /** Default the system's. */
  readonly clock?: Clock
}

const PROXY_WAY =
  'originProxy and originNoProxy, or HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the daemon, say what goes through which proxy'

/** Opens the shared parts; the scope closes them. Throws STORE_LOCKED when another daemon has the data directory. */
export async function openShared(settings: Settings, parts: ComposeParts & { scope: Scope }) {
  const { scope, log, signal, env = {} } = parts
  const proxy = proxyOfDaemon(settings, env)
  if (proxy !== undefined) {
    const [https, http] = ['https', 'http'].map((scheme) => proxyName(proxy(new URL(`${scheme}://registry.invalid`))))
    log.info({ https, http }, 'origins are asked through a proxy')
  }
  const { clock = systemClock } = parts
  const random: Random = Math.random
  await openDataDirectory(settings.data, log)
  const store = scope.own(
    await openStore(
      {
        directory: join(settings.data, 'store'),
        ...(settings.storeQuota > 0 ? { maxBytes: settings.storeQuota } : {}),
        high: settings.storeHigh / 100,
        low: settings.storeLow / 100,
      },
      { log: roomLog(log, 'store'), clock },
    ),
  )
  signal?.throwIfAborted()
  const identity = await openIdentity(settings.data)
  const node = scope.own(
    await openNode({ listen: [settings.p2pListen], identity, vouched: true }, { log: roomLog(log, 'protocol') }),
  )
  signal?.throwIfAborted()
  const originOptions: OriginClientOptions = {
    ...ORIGIN_DEFAULTS,
    firstByteMs: settings.originTimeout,
    idleMs: settings.originTimeout,
    userAgent: `darner/${await ownVersion()}`,
    hosts: await readCertsDir(settings.certsDir),
    ...originGuard({ allowPrivate: settings.allowPrivateOrigins }),
    ...(proxy === undefined ? {} : { proxy, proxyWay: PROXY_WAY }),
  }
  const origin = scope.own(createOriginClient(originOptions, { log: roomLog(log, 'origin'), clock }))
  const limits = { ...RETRY_LIMITS, attempts: settings.originRetries + 1 }
  const retryMs = (error: unknown, attempt: number, chance: Random) => retryPlan(error, attempt, chance, limits)
  return { clock, random, store, identity, node, origin, originOptions, retryMs }
}
