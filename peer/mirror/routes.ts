/** What a request line asks of a registry (distribution-spec, "Endpoints"), read without ever normalising a path. */

import { type Digest, isDigest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { isRepository, isTag } from '../../src/oci/reference.ts'
import { type Place, type Upstream, type Upstreams, unknownUpstream } from './upstreams.ts'

export type Route =
  | { readonly kind: 'base'; readonly ns: string | undefined }
  | { readonly kind: 'catalog'; readonly ns: string | undefined }
  | { readonly kind: 'manifest'; readonly place: Place; readonly reference: string }
  | { readonly kind: 'blob'; readonly place: Place; readonly digest: Digest }
  | { readonly kind: 'referrers'; readonly place: Place; readonly digest: Digest }
  | { readonly kind: 'tags'; readonly place: Place }
  | { readonly kind: 'upload'; readonly place: Place; readonly id: string | undefined }

export interface Target {
  readonly route: Route
  /** The query as it came, without `ns`. */
  readonly query: string
}

const MAX_TARGET_CHARS = 8192
const UPLOAD_ID = /^[A-Za-z0-9._~=+-]{1,512}$/

/**
 * Reads a request target; `via` is the upstream whose place the mirror takes on this connection. Throws REFERENCE_INVALID (a name
 * or tag that is none), DIGEST_INVALID, NOT_FOUND (no such endpoint, or an upstream that isn't on the list), BAD_ARGUMENT (no path).
 */
export function readTarget(given: string, upstreams: Upstreams, docker = false, via?: Upstream): Target {
  if (given.length > MAX_TARGET_CHARS)
    throw new DarnerError('BAD_ARGUMENT', `a request target of ${given.length} characters is too long`)
  const { target, upstream = via } = given.startsWith('/') ? { target: given } : ofProxy(given, upstreams)
  const mark = target.indexOf('?')
  const path = mark < 0 ? target : target.slice(0, mark)
  const { ns = upstream?.name, query } = readQuery(mark < 0 ? '' : target.slice(mark + 1))
  const [empty, version, ...parts] = path.split('/').map(decodePart)
  if (empty !== '' || version !== 'v2') throw noEndpoint(path)
  if (parts.length === 0 || (parts.length === 1 && parts[0] === '')) return { route: { kind: 'base', ns }, query }
  if (parts.length === 1 && parts[0] === '_catalog') return { route: { kind: 'catalog', ns }, query }
  return { route: readRoute(path, parts, (named) => placeOf(named, ns, upstreams, docker)), query }
}

/** A client that takes us for its proxy sends whole URLs: those of upstreams without TLS are the mirror's to answer. */
function ofProxy(given: string, upstreams: Upstreams): { target: string; upstream: Upstream } {
  const [, host = '', target = ''] = /^http:\/\/([^/?#@\\]{1,262})(\/.*)$/i.exec(given) ?? []
  const url = URL.canParse(`http://${host}`) ? new URL(`http://${host}`) : undefined
  const port = url?.port === '' ? 80 : Number(url?.port)
  const upstream = url && upstreams.atHost({ host: url.hostname.replace(/^\[|\]$/g, ''), port }, 'http:')
  if (upstream === undefined)
    throw new DarnerError(
      'BAD_ARGUMENT',
      'the mirror serves its own paths and the URLs of its upstreams; it is not a proxy for other hosts',
    )
  return { target, upstream }
}

/** The upstream of a request that names no repository. Throws NOT_FOUND. */
export function upstreamOf(ns: string | undefined, upstreams: Upstreams) {
  if (ns === undefined) return upstreams.default
  const found = upstreams.find(ns)
  if (found === undefined) throw unknownUpstream(ns)
  return found
}

function readRoute(path: string, parts: readonly string[], placed: (named: readonly string[]) => Place): Route {
  const last = parts.at(-1) ?? ''
  const kind = parts.at(-2)
  const place = (count: number) => placed(parts.slice(0, parts.length - count))
  if (parts.length >= 4 && kind === 'uploads' && parts.at(-3) === 'blobs') {
    if (last !== '' && !UPLOAD_ID.test(last)) throw noEndpoint(path)
    return { kind: 'upload', place: place(3), id: last === '' ? undefined : last }
  }
  if (parts.length >= 3 && kind === 'blobs') {
    if (last === 'uploads') return { kind: 'upload', place: place(2), id: undefined }
    return { kind: 'blob', place: place(2), digest: digestOf(last) }
  }
  if (parts.length >= 3 && kind === 'manifests') {
    const at = place(2)
    if (last.includes(':')) digestOf(last)
    else if (!isTag(last))
      throw new DarnerError('MANIFEST_INVALID', `tag ${JSON.stringify(last.slice(0, 160))} is not 1 to 128 characters`)
    return { kind: 'manifest', place: at, reference: last }
  }
  if (parts.length >= 3 && kind === 'referrers') return { kind: 'referrers', place: place(2), digest: digestOf(last) }
  if (parts.length >= 3 && kind === 'tags' && last === 'list') return { kind: 'tags', place: place(2) }
  throw noEndpoint(path)
}

function placeOf(parts: readonly string[], ns: string | undefined, upstreams: Upstreams, docker: boolean): Place {
  const place = upstreams.place(parts, ns, docker)
  if (isRepository(place.repository)) return place
  throw new DarnerError(
    'REFERENCE_INVALID',
    `repository ${JSON.stringify(place.repository.slice(0, 160))} is not a path of lower-case parts`,
  )
}

function digestOf(text: string): Digest {
  if (isDigest(text)) return text
  throw new DarnerError('DIGEST_INVALID', `${JSON.stringify(text.slice(0, 160))} is not a digest`)
}

/** `%3A` is a colon that some clients encode; a part that turns out to hold a slash is no part of a name. */
function decodePart(part: string): string {
  if (!part.includes('%')) return part
  try {
    const decoded = decodeURIComponent(part)
    if (!/[/\\%]/.test(decoded)) return decoded
  } catch {
    // URIError: said below
  }
  throw new DarnerError('REFERENCE_INVALID', `path part ${JSON.stringify(part.slice(0, 160))} may not be encoded so`)
}

function readQuery(text: string): { ns: string | undefined; query: string } {
  const kept: string[] = []
  let ns: string | undefined
  for (const pair of text === '' ? [] : text.split('&')) {
    if (pair !== 'ns' && !pair.startsWith('ns=')) {
      kept.push(pair)
      continue
    }
    if (ns !== undefined) throw new DarnerError('BAD_ARGUMENT', 'the query names two registries')
    ns = new URLSearchParams(pair).get('ns') ?? ''
  }
  // an empty ns is what a client sends that knows none
  return { ns: ns === '' ? undefined : ns, query: kept.join('&') }
}

function noEndpoint(path: string): DarnerError {
  return new DarnerError('NOT_FOUND', `${path.slice(0, 200)}: a registry has no such endpoint`)
}
