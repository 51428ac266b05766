/**
 * The places that rights are bound to. A place states its kind and the canonical URL of the endpoint. So a registry's blobs, a URL of the
 * same host and another of its repositories never have one name.
 */
import { createHash } from 'node:crypto'
import { DarnerError } from '../core/errors.ts'
import { type Origin, originName, type UrlOrigin } from '../core/task/origin.ts'
import type { Place } from '../core/task/place.ts'
import { PUT_ORIGIN } from '../core/task/put-origin.ts'
import { registryUrl } from '../origin/origin-ask.ts'

/** Where blobs are that hosts gave to the swarm themselves: open to every admitted host. */
export const PUT_PLACE = 'put' as Place

/** Request headers that give nobody a right. */
const PLAIN_HEADERS = new Set(['accept', 'accept-encoding', 'accept-language', 'user-agent'])
const MAX_PLAIN_CHARS = 600

/**
 * The place of an origin. Places are kept on disk and shown to other peers inside passes. So user info, a query, headers and a tag, which
 * may be secrets, are in them as a hash only. Throws BAD_ARGUMENT, REFERENCE_INVALID.
 */
export function placeOf(origin: Origin): Place {
  if (origin.kind === 'registry') return `registry ${registryUrl(origin, origin.collection).href}` as Place
  if (origin.url === PUT_ORIGIN.url) return PUT_PLACE
  const url = urlOf(origin)
  const plain = `${url.origin}${url.pathname}`
  const secrets = secretsOf(origin, url)
  if (plain.length <= MAX_PLAIN_CHARS && secrets.every((one) => one === '')) return `url ${plain}` as Place
  const hash = createHash('sha256')
    .update(JSON.stringify([plain, secrets]))
    .digest('hex')
  return `url ${plain.slice(0, MAX_PLAIN_CHARS)}#${hash}` as Place
}

/** Whether the request itself may carry rights, apart from any credential: then what it brings isn't open to all. */
export function carriesRights(origin: Origin): boolean {
  return origin.kind === 'url' && secretsOf(origin, urlOf(origin)).some((one) => one !== '')
}

function secretsOf(origin: UrlOrigin, url: URL): string[] {
  const user = url.username === '' && url.password === '' ? '' : `user ${url.username}:${url.password}`
  return [url.search, ...rightfulHeaders(origin), ...(origin.tag === undefined ? [] : [`tag ${origin.tag}`]), user]
}

function urlOf(origin: UrlOrigin): URL {
  if (URL.canParse(origin.url)) return new URL(origin.url)
  throw new DarnerError('BAD_ARGUMENT', `${originName(origin)}: no URL`)
}

function rightfulHeaders(origin: UrlOrigin): string[] {
  return Object.entries(origin.headers ?? {})
    .map(([name, value]) => `${name.toLowerCase()}: ${value}`)
    .filter((line) => !PLAIN_HEADERS.has(line.slice(0, line.indexOf(':'))))
    .sort()
}
