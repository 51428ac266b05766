/**
 * Sends a client's request on to its upstream and the answer back, byte for byte: challenges, refusals, tag lists, referrers,
 * pushes. What names the upstream's own paths (`Location`, `Link`) is written so that the client comes back through the mirror.
 */
import { pipe } from 'it-pipe'
import { isRepository } from '../../src/oci/reference.ts'
import type { HttpAnswer, OriginHttp } from '../../src/origin/origin-http.ts'
import { send } from './answer.ts'
import type { Ask } from './ask.ts'
import type { Place, Upstream } from './upstreams.ts'

/** What of a request goes on. `authorization` travels apart: it is dropped at a redirect to another host. */
const REQUEST_HEADERS = [
  'accept',
  'accept-encoding',
  'content-type',
  'content-length',
  'content-range',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'range',
  'user-agent',
] as const

/** They mean something with GET only (RFC 9110, 14.2), and registries don't all know that. */
const RANGE_HEADERS: readonly string[] = ['if-range', 'range']

/** What of an answer comes back. */
const ANSWER_HEADERS = [
  'accept-ranges',
  'age',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'docker-content-digest',
  'docker-distribution-api-version',
  'docker-upload-uuid',
  'etag',
  'last-modified',
  'oci-chunk-max-length',
  'oci-chunk-min-length',
  'oci-filters-applied',
  'oci-subject',
  'range',
  'retry-after',
  'vary',
  'warning',
  'www-authenticate',
] as const

/** How an upstream's paths are spelled for this client. */
export type Spelling = Pick<Place, 'upstream' | 'ns' | 'prefix'>

/** Asks the upstream what the client asked, `path` being below `/v2/`. Throws the origin client's errors; refusals are answers. */
export async function askUpstream(http: OriginHttp, ask: Ask, upstream: Upstream, path: string): Promise<HttpAnswer> {
  const { request, query, signal, credential } = ask
  const method = (request.method ?? 'GET') as 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  const base = new URL(upstream.url)
  const url = new URL(`${base.pathname.replace(/\/+$/, '')}/v2/${path}${query === '' ? '' : `?${query}`}`, base.origin)
  const headers: Record<string, string> = {}
  for (const name of REQUEST_HEADERS) {
    if (method === 'HEAD' && RANGE_HEADERS.includes(name)) continue
    const value = request.headers[name]
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value
  }
  const bodied = method === 'POST' || method === 'PUT' || method === 'PATCH'
  return await http.ask({
    method,
    url,
    purpose: 'origin',
    headers,
    secretHeaders: credential?.kind === 'header' ? { authorization: credential.value } : {},
    ...(bodied ? { body: request } : {}),
    signal,
  })
}

/** Gives the upstream's answer to the client. Closes it. */
export async function relay(ask: Ask, answer: HttpAnswer, spelling: Spelling): Promise<void> {
  await using upstream = answer
  const { response, head } = ask
  const headers: Record<string, string | string[]> = {}
  for (const name of ANSWER_HEADERS) {
    const values = upstream.values(name)
    if (values.length > 0) headers[name] = values.length === 1 ? (values[0] ?? '') : values
  }
  const location = upstream.header('location')
  if (location !== undefined) headers.location = respell(location, spelling, upstream.url)
  const links = upstream.values('link')
  if (links.length > 0)
    headers.link = links.map((link) =>
      link.replaceAll(/<([^>]*)>/g, (_, url) => `<${respell(url, spelling, upstream.url)}>`),
    )
  if (spelling.ns !== undefined) headers['oci-namespace'] = spelling.ns
  response.writeHead(upstream.status, headers)
  if (head || upstream.status === 204 || upstream.status === 304) {
    response.end()
    return
  }
  response.flushHeaders()
  await pipe(upstream.body, async (chunks: AsyncIterable<Uint8Array>) => {
    for await (const chunk of chunks) await send(ask, chunk)
  })
  response.end()
}

/** An upstream's URL or path as this client must ask for it here; other places stay as they are. */
export function respell(text: string, { upstream, ns, prefix }: Spelling, from: URL): string {
  if (!URL.canParse(text, from.href)) return text
  const url = new URL(text, from)
  const base = new URL(upstream.url)
  const root = `${base.pathname.replace(/\/+$/, '')}/v2/`
  if (url.origin !== base.origin || !url.pathname.startsWith(root)) return text
  const rest = url.pathname.slice(root.length)
  const search = [url.search.replace(/^\?/, ''), ...(ns === undefined ? [] : [`ns=${encodeURIComponent(ns)}`])]
    .filter((one) => one !== '')
    .join('&')
  const spelled = isRepository(rest.split('/')[0] ?? '') ? `${prefix}${rest}` : rest
  return `/v2/${spelled}${search === '' ? '' : `?${search}`}`
}
