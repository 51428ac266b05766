/** Which proxy the environment names for a URL, as curl reads it (curl(1), "ENVIRONMENT"). */
import { BlockList, isIP } from 'node:net'

type Env = Readonly<Record<string, string | undefined>>

/**
 * `http_proxy` (in lower case only: a CGI sets HTTP_PROXY from a request), `https_proxy`, then `all_proxy`; none for hosts that
 * `no_proxy` names: `*`, or by commas domains, each for itself and what is below it, addresses and networks (`10.0.0.0/8`). Without a
 * scheme a proxy is http.
 */
export function proxyFromEnv(env: Env): (url: URL) => string | undefined {
  return (url) => {
    if (withoutProxy(url.hostname, env.no_proxy ?? env.NO_PROXY ?? '')) return undefined
    const own = url.protocol === 'https:' ? env.https_proxy || env.HTTPS_PROXY : env.http_proxy
    const proxy = own || env.all_proxy || env.ALL_PROXY
    return proxy ? proxyUrl(proxy) : undefined
  }
}

/** A proxy as people write it, as a URL; text that is none stays as it is. */
export function proxyUrl(text: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`
}

function withoutProxy(hostname: string, list: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '').toLowerCase()
  return list
    .split(/[\s,]+/)
    .filter((one) => one !== '')
    .some((one) => {
      if (one === '*') return true
      const name = one
        .toLowerCase()
        .replace(/^\./, '')
        .replace(/^\[|\]$/g, '')
        .replace(/\]$/, '')
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
