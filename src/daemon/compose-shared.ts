/** What both daemons are made of: log, store, identity, node, origin client. */
import { access, constants, mkdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { type Clock, type Random, systemClock } from '../core/clock.ts'
import type { AgentSettings, SupernodeSettings } from '../core/config/schema.ts'
import { DarnerError, systemCode } from '../core/errors.ts'
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

type Settings = SupernodeSettings | AgentSettings

/** The daemon's log, on stderr: JSON in a pipe, readable on a terminal, unless the settings say otherwise. */
export async function openDaemonLog(settings: Settings): Promise<Log> {
  const pretty = settings.logFormat === 'pretty' || (settings.logFormat === 'auto' && process.stderr.isTTY === true)
  return await openLog({ level: settings.logLevel, pretty })
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
  await makeDataDirectory(settings.data)
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

/** Makes a daemon's data directory, and those above it, and sees that this user may use it. Throws HOST_UNABLE. */
export async function makeDataDirectory(path: string): Promise<void> {
  const way = 'run this as root, or name one that this user may write with --data'
  try {
    await makeDirectories(resolve(path))
  } catch (error) {
    const text = `cannot make the data directory ${path}: ${systemCode(error) ?? error}`
    throw new DarnerError('HOST_UNABLE', text, { cause: error, way })
  }
  try {
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    const text = `this user may not use the data directory ${path}: ${systemCode(error) ?? error}`
    throw new DarnerError('HOST_UNABLE', text, { cause: error, way })
  }
}

/** One by one: below /proc, which says ENOENT to whatever one makes there, Node's own recursion never ends. */
async function makeDirectories(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    const code = systemCode(error)
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return
    const above = dirname(path)
    if (code !== 'ENOENT' || above === path || (await isDirectory(above))) throw error
    await makeDirectories(above)
    await mkdir(path, { mode: 0o700 })
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
