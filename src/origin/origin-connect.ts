/** How hosts are connected to: straight, each address under the guard, or through a proxy, which resolves their names. */
import { lookup as systemLookup } from 'node:dns'
import { once } from 'node:events'
import { connect as dial } from 'node:net'
import type { Duplex } from 'node:stream'
import { getCACertificates } from 'node:tls'
import { Client, type Dispatcher, Pool, ProxyAgent } from 'undici'
import { DarnerError } from '../core/errors.ts'
import type { HostPort } from '../core/host-port.ts'
import { decoded } from './decoded.ts'

/** How to speak TLS with one host. All in PEM. */
export interface HostTls {
  /** Trusted besides the system's. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  /** Takes any certificate. */
  readonly insecure?: boolean
}

export type AllowAddress = (address: string, hostname: string) => boolean

/** What undici's connector takes. HTTP/2 would hold a fast reader back by its windows, and put all reads of a host on one connection. */
export function connectOptions(tls: HostTls, connectMs: number) {
  return {
    timeout: connectMs,
    allowH2: false,
    ...(tls.ca === undefined ? {} : { ca: [...getCACertificates('default'), tls.ca] }),
    ...(tls.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls.key === undefined ? {} : { key: tls.key }),
    ...(tls.insecure === true ? { rejectUnauthorized: false } : {}),
  }
}

/** A proxy, and how to speak TLS with it where its URL is https. */
export interface ProxyWay {
  readonly url: string
  readonly tls: HostTls
  readonly connectMs: number
}

/** Requests through a proxy: whole URLs for http, CONNECT for https with `tls` inside. */
export function openProxy(
  { url, tls: proxyTls, connectMs }: ProxyWay,
  options: { connections: number; pipelining: number; headersTimeout: number; bodyTimeout: number },
  tls: HostTls,
): Dispatcher {
  // undici hands neither limits nor deadlines on to the connections to the proxy itself
  const pool = (origin: URL, own: object) => new Pool(origin, { ...options, ...own })
  return new ProxyAgent({
    ...options,
    ...serverOf(url),
    allowH2: false,
    proxyTunnel: false,
    requestTls: connectOptions(tls, connectMs),
    // whatever stands here, undici speaks TLS with a SOCKS proxy for it
    ...(url.startsWith('https:') ? { proxyTls: connectOptions(proxyTls, connectMs) } : {}),
    connectTimeout: connectMs,
    clientFactory: pool,
    factory: pool,
  })
}

/** A connection by CONNECT for bytes that are somebody else's. Rejects as undici does, or with the signal's reason. */
export async function openTunnel(
  { url, tls, connectMs }: ProxyWay,
  target: string,
  { signal }: { signal: AbortSignal },
): Promise<Duplex> {
  const { uri, token } = serverOf(url)
  const client = new Client(uri, { connect: connectOptions(tls, connectMs) })
  try {
    const authorization = token === undefined ? {} : { 'proxy-authorization': token }
    const { statusCode, socket } = await client.connect({
      path: target,
      headers: { host: target, ...authorization },
      signal,
    })
    socket.on('error', () => {})
    if (statusCode === 200) return socket
    socket.destroy()
    // in the words of undici's ProxyAgent, so that a refusal is known by one sign
    throw new Error(`Proxy response (${statusCode}) !== 200 when HTTP Tunneling`)
  } catch (error) {
    await client.destroy()
    throw error
  }
}

/** A straight connection, under the guard. */
export async function openStraight(
  { host, port }: HostPort,
  allowAddress: AllowAddress | undefined,
  { signal }: { signal: AbortSignal },
): Promise<Duplex> {
  const guard = allowAddress === undefined ? {} : { lookup: guardedLookup(allowAddress) }
  const socket = dial({ host, port, noDelay: true, ...guard })
  try {
    await once(socket, 'connect', { signal })
  } catch (error) {
    socket.destroy()
    throw error
  }
  socket.on('error', () => {})
  return socket
}

/** A proxy's place apart from its credentials, which then are in no error of a connection to it. */
function serverOf(proxy: string): { uri: string; token?: string } {
  const url = new URL(proxy)
  // undici reads those of SOCKS out of the URL
  if (url.protocol === 'socks5:') return { uri: proxy }
  if (url.username === '') return { uri: url.origin }
  const pair = `${decoded(url.username)}:${decoded(url.password)}`
  return { uri: url.origin, token: `Basic ${Buffer.from(pair).toString('base64')}` }
}

/** Resolves as the system does, then refuses a name that leads to an address that may not be asked. */
export function guardedLookup(allowAddress: AllowAddress): typeof systemLookup {
  const lookup = (hostname: string, options: object, callback: (error: Error | null, ...found: unknown[]) => void) => {
    systemLookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error)
      const bad = found.find((one) => !allowAddress(one.address, hostname))
      if (bad !== undefined) {
        return callback(
          new DarnerError('ORIGIN_FORBIDDEN', `connect to ${hostname}: its address ${bad.address} may not be asked`, {
            details: { host: hostname },
          }),
        )
      }
      if ('all' in options && options.all === true) return callback(null, found)
      callback(null, found[0]?.address, found[0]?.family)
    })
  }
  return lookup as unknown as typeof systemLookup
}
