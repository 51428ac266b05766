/** From an origin to the request that reads it: its URL, and which of its headers are secret. */

import { type Digest, isDigest } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import { type Credential, type Origin, originName, type RegistryOrigin } from '../core/task/origin.ts'
import { MANIFEST_ACCEPT } from '../oci/media-types.ts'
import { isRepository, isTag } from '../oci/reference.ts'
import { decoded } from './decoded.ts'
import { isOwnHeader } from './own-header.ts'

/** What to read: a URL, or a blob or manifest of a repository by `digest`. */
export interface OriginTarget {
  readonly origin: Origin
  /** Needed for a registry. A URL isn't checked here: the holder of all bytes checks them. */
  readonly digest?: Digest
}

export interface AccessOptions {
  readonly credential?: Credential | undefined
  readonly signal: AbortSignal
}

export type ManifestOrigin = Omit<RegistryOrigin, 'collection'>

/** One request, before authorisation. */
export interface OriginAsk {
  readonly method: 'GET' | 'HEAD'
  readonly url: URL
  readonly repository: string | undefined
  readonly credential: Credential | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly secretHeaders: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/** Headers of a URL origin that tell nothing secret and may follow a redirect. */
const OPEN_HEADER = /^(accept|accept-[a-z-]+|user-agent)$/

/** The request for a target. Throws BAD_ARGUMENT, REFERENCE_INVALID. */
export function askOf(target: OriginTarget, { credential, signal }: AccessOptions): OriginAsk {
  const { origin, digest } = target
  if (origin.kind === 'registry') {
    if (digest === undefined)
      throw new DarnerError('BAD_ARGUMENT', `read of ${originName(origin)}: a registry's content is read by digest`)
    const accept = origin.collection === 'manifests' ? MANIFEST_ACCEPT : '*/*'
    return registryAsk(origin, `${origin.collection}/${digest}`, accept, { credential, signal })
  }
  if (!URL.canParse(origin.url)) throw new DarnerError('BAD_ARGUMENT', 'origin URL is unreadable')
  const url = new URL(origin.url)
  const own =
    url.username === ''
      ? undefined
      : { kind: 'basic' as const, username: decoded(url.username), password: decoded(url.password) }
  url.username = ''
  url.password = ''
  url.hash = ''
  if (credential?.kind === 'query')
    url.search = url.search === '' ? credential.value : `${url.search}&${credential.value}`
  const given = Object.entries(origin.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value] as const)
  const open = given.filter(([name]) => OPEN_HEADER.test(name))
  const secret = given.filter(([name]) => !OPEN_HEADER.test(name) && !isOwnHeader(name))
  return {
    method: 'GET',
    url,
    repository: undefined,
    credential: credential ?? own,
    headers: { accept: '*/*', 'accept-encoding': 'identity', ...Object.fromEntries(open) },
    secretHeaders: Object.fromEntries(secret),
    signal,
  }
}

/** The request for a manifest by tag or digest. Throws REFERENCE_INVALID, BAD_ARGUMENT. */
export function manifestAsk(origin: ManifestOrigin, reference: string, options: AccessOptions): OriginAsk {
  if (!isDigest(reference) && !isTag(reference)) {
    throw new DarnerError(
      'REFERENCE_INVALID',
      `manifest ${JSON.stringify(reference.slice(0, 160))} of ${origin.repository}: neither a tag nor a digest`,
    )
  }
  return registryAsk(origin, `manifests/${reference}`, MANIFEST_ACCEPT, options)
}

/** A GET of `path` within a repository; other methods are put in by the caller. Throws REFERENCE_INVALID, BAD_ARGUMENT. */
export function registryAsk(
  origin: ManifestOrigin,
  path: string,
  accept: string,
  { credential, signal }: AccessOptions,
): OriginAsk {
  const url = registryUrl(origin, path)
  return {
    method: 'GET',
    url,
    repository: origin.repository,
    credential,
    headers: { accept, 'accept-encoding': 'identity' },
    secretHeaders: {},
    signal,
  }
}

/** The URL of `path` within a repository. Throws REFERENCE_INVALID, BAD_ARGUMENT. */
export function registryUrl({ upstream, repository }: ManifestOrigin, path: string): URL {
  if (!isRepository(repository)) {
    throw new DarnerError(
      'REFERENCE_INVALID',
      `repository ${JSON.stringify(repository.slice(0, 160))} is not a path of lower-case parts`,
    )
  }
  const base = URL.canParse(upstream) ? new URL(upstream) : undefined
  if (base?.protocol !== 'https:' && base?.protocol !== 'http:')
    throw new DarnerError('BAD_ARGUMENT', 'upstream URL is unreadable')
  return new URL(`${base.pathname.replace(/\/+$/, '')}/v2/${repository}/${path}`, base.origin)
}
