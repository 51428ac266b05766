/** Which proxy a URL is asked through: for a command as curl reads the environment (curl(1), "ENVIRONMENT"), for a daemon as Go's programs do. */
import { BlockList, isIP } from 'node:net'
import { DarnerError } from '../core/errors.ts'

type Env = Readonly<Record<string, string | undefined>>

/**
 * `http_proxy` (in lower case only: a CGI sets HTTP_PROXY from a request), `https_proxy`, then `all_proxy`. None for hosts that `no_proxy`
 * names: `*`, or domains with all below them, addresses and networks (`10.0.0.0/8`), separated by commas. As in Go, `*.` before a domain
 * and `:PORT` behind are understood. Without a scheme a proxy is http.
 */
export function proxyFromEnv(env: Env): (url: URL) => string | undefined {
  return (url) => {
    if (withoutProxy(url, env.no_proxy ?? env.NO_PROXY ?? '')) return undefined
    const own = url.protocol === 'https:' ? env.https_proxy || env.HTTPS_PROXY : env.http_proxy
    const proxy = own || env.all_proxy || env.ALL_PROXY
    return proxy ? proxyUrl(proxy) : undefined
  }
}

/** What a daemon's settings say of proxies. */
export interface OriginProxySettings {
  /** A URL, `auto` for the environment's, or `off`. */
  readonly originProxy: string
  /** As `NO_PROXY` has it; none for the environment's. */
  readonly originNoProxy: readonly string[]
}

/**
 * The proxies of a daemon, as dockerd and containerd read them (Go's `httpproxy`). `HTTPS_PROXY` is for https, `HTTP_PROXY` for http,
 * either also in lower case; never for loopback. Undefined where there is none. Throws CONFIG_INVALID, without the text, which may hold a
 * password.
 */
export function proxyOfDaemon(
  { originProxy, originNoProxy }: OriginProxySettings,
  env: Env,
): ((url: URL) => string | undefined) | undefined {
  if (originProxy === 'off') return undefined
  const auto = originProxy === 'auto'
  const read = (name: string) => {
    if (!auto) return checkedProxy('originProxy', originProxy)
    const text = env[name] || env[name.toLowerCase()]
    return text ? checkedProxy(`environment ${name}`, text) : undefined
  }
  const [https, http] = [read('HTTPS_PROXY'), read('HTTP_PROXY')]
  if (https === undefined && http === undefined) return undefined
  const except = originNoProxy.length > 0 ? originNoProxy.join(',') : env.NO_PROXY || env.no_proxy || ''
  return (url) => {
    const proxy = url.protocol === 'https:' ? https : http
    return proxy === undefined || isLoopback(url.hostname) || withoutProxy(url, except) ? undefined : proxy
  }
}

function checkedProxy(where: string, text: string): string {
  const url = proxyUrl(text)
  const { protocol, hostname } = URL.canParse(url) ? new URL(url) : { protocol: '', hostname: '' }
  if ((protocol === 'http:' || protocol === 'https:') && hostname !== '') return url
  throw new DarnerError('CONFIG_INVALID', `${where}: expected [http|https://][NAME:PASSWORD@]HOST[:PORT]`, {
    way: "originProxy names the daemon's proxy, and originProxy: off leaves the environment out",
  })
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('0.0.0.0', 'ipv4')
LOOPBACK.addSubnet('::', 127, 'ipv6')

/** What means the host itself: a proxy would take it for its own. */
function isLoopback(hostname: string): boolean {
  const host = bareHost(hostname)
  const family = isIP(host)
  if (family !== 0) return LOOPBACK.check(host, family === 4 ? 'ipv4' : 'ipv6')
  return host === 'localhost' || host.endsWith('.localhost')
}

/** A URL's host without brackets and the dot of a full name. */
function bareHost(hostname: string): string {
  return hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase()
}

/** A proxy as people write it, as a URL; text that is none stays as it is. */
export function proxyUrl(text: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`
}

function withoutProxy(url: URL, list: string): boolean {
  const host = bareHost(url.hostname)
  const ownPort = url.port || (url.protocol === 'https:' ? '443' : '80')
  return list
    .split(/[\s,]+/)
    .filter((one) => one !== '')
    .some((one) => {
      if (one === '*') return true
      const [, named = '', port] = /^(\[.*\]|[^:]*?)(?::(\d{1,5}))?$/.exec(one) ?? [undefined, one]
      if (port !== undefined && port !== ownPort) return false
      const name = named
        .toLowerCase()
        .replace(/^\*?\./, '')
        .replace(/^\[|\]$/g, '')
      return host === name || (isIP(host) === 0 ? host.endsWith(`.${name}`) : isWithin(host, name))
    })
}

/** Whether an address lies in `NETWORK/BITS`. */
function isWithin(address: string, network: string): boolean {
  const [base = '', bits = ''] = network.split('/')
  const family = isIP(base)
  if (family === 0 || family !== isIP(address) || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128))
    return false
  const list = new BlockList()
  const type = family === 4 ? 'ipv4' : 'ipv6'
  list.addSubnet(base, Number(bits), type)
  return list.check(address, type)
}
