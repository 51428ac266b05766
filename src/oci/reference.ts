/**
 * Image references as the docker family writes them: `[host[:port]/]path[:tag][@digest]`. A first part is a host if it holds a `.` or a
 * `:`, is `localhost`, is bracketed, or has a capital letter. Otherwise the image is Docker Hub's.
 */

import { type Digest, isDigest } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import type { RegistryOrigin } from '../core/task/origin.ts'

/** Docker Hub's name in references, and the host that serves it. */
export const DEFAULT_REGISTRY = 'docker.io'
const DEFAULT_REGISTRY_HOST = 'registry-1.docker.io'
const OFFICIAL_PREFIX = 'library/'

/** Longest reference text that is looked at, and longest repository path (distribution-spec, "Pulling manifests"). */
export const MAX_REFERENCE_CHARS = 1024
export const MAX_REPOSITORY_CHARS = 255

export interface Reference {
  /** Host as written, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly registry: string
  /** Path in the registry, `library/` filled in for Docker Hub's official images. */
  readonly repository: string
  /** Absent only when a digest stands alone; `latest` when neither was written. */
  readonly tag?: string
  readonly digest?: Digest
}

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?'
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:.]+\\])(?::([0-9]{1,5}))?$`)
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/
const BARE_ID = /^[a-f0-9]{64}$/

/** Reads a reference. Throws REFERENCE_INVALID, saying which part is wrong. */
export function parseReference(text: string): Reference {
  const refuse = (why: string): never => {
    throw new DarnerError('REFERENCE_INVALID', `image reference ${JSON.stringify(text.slice(0, 160))}: ${why}`)
  }
  if (text === '') refuse('it is empty')
  if (text.length > MAX_REFERENCE_CHARS) refuse(`it is longer than ${MAX_REFERENCE_CHARS} characters`)
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) refuse('it is a URL; leave the scheme out')
  const { name, digest } = cutDigest(text, refuse)
  const { path, tag } = cutTag(name, refuse)
  const { registry, repository } = cutHost(path, refuse)
  if (repository.length > MAX_REPOSITORY_CHARS)
    refuse(`the repository is longer than ${MAX_REPOSITORY_CHARS} characters`)
  for (const component of repository.split('/')) {
    if (COMPONENT.test(component)) continue
    if (component === '') refuse('the repository has an empty part')
    if (/[A-Z]/.test(component)) refuse(`the repository part ${JSON.stringify(component)} has capital letters`)
    refuse(
      `the repository part ${JSON.stringify(component)} is not lower case letters and digits joined by . _ __ or -`,
    )
  }
  const shown = tag ?? (digest === undefined ? 'latest' : undefined)
  return {
    registry,
    repository,
    ...(shown === undefined ? {} : { tag: shown }),
    ...(digest === undefined ? {} : { digest }),
  }
}

/** True when `text` may stand as a tag. */
export function isTag(text: string): boolean {
  return TAG.test(text)
}

/** True when `text` may stand as a repository path (distribution-spec, "Pulling manifests"). */
export function isRepository(text: string): boolean {
  return text.length <= MAX_REPOSITORY_CHARS && text.split('/').every((component) => COMPONENT.test(component))
}

/** The full text of a reference, nothing left out. */
export function formatReference({ registry, repository, tag, digest }: Reference): string {
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
}

/** The text people write: without Docker Hub's host and `library/`. */
export function familiarReference(reference: Reference): string {
  const full = formatReference(reference)
  if (reference.registry !== DEFAULT_REGISTRY) return full
  const short = full.slice(DEFAULT_REGISTRY.length + 1)
  return short.startsWith(OFFICIAL_PREFIX) && !reference.repository.slice(OFFICIAL_PREFIX.length).includes('/')
    ? short.slice(OFFICIAL_PREFIX.length)
    : short
}

/** What to ask the registry for: the digest when there is one, else the tag. */
export function manifestReference(reference: Reference): string {
  return reference.digest ?? reference.tag ?? 'latest'
}

/** The base URL of a registry by the name that references use; https unless `plainHttp`. */
export function upstreamOf(registry: string, { plainHttp }: { plainHttp: boolean }): string {
  const host = registry === DEFAULT_REGISTRY ? DEFAULT_REGISTRY_HOST : registry
  return `${plainHttp ? 'http' : 'https'}://${host.toLowerCase()}`
}

/** The origin of an image's manifests. */
export function originOf(reference: Reference, options: { plainHttp: boolean }): Omit<RegistryOrigin, 'collection'> {
  return { kind: 'registry', upstream: upstreamOf(reference.registry, options), repository: reference.repository }
}

type Refuse = (why: string) => never

function cutDigest(text: string, refuse: Refuse): { name: string; digest?: Digest } {
  const at = text.indexOf('@')
  if (at < 0) return { name: text }
  const digest = text.slice(at + 1)
  if (!isDigest(digest))
    return refuse(`the digest ${JSON.stringify(digest.slice(0, 160))} is not sha256:<64 hex> or sha512:<128 hex>`)
  return { name: text.slice(0, at), digest }
}

function cutTag(name: string, refuse: Refuse): { path: string; tag?: string } {
  const at = name.lastIndexOf(':')
  if (at <= name.lastIndexOf('/') || (name.startsWith('[') && !name.includes('/'))) return { path: name }
  const tag = name.slice(at + 1)
  if (!isTag(tag))
    refuse(tag === '' ? 'the tag is empty' : `the tag ${JSON.stringify(tag)} is not 1 to 128 letters, digits, _ . or -`)
  return { path: name.slice(0, at), tag }
}

function cutHost(path: string, refuse: Refuse): { registry: string; repository: string } {
  const slash = path.indexOf('/')
  const first = slash < 0 ? '' : path.slice(0, slash)
  if (slash < 0 || !(/[.:[\]A-Z]/.test(first) || first === 'localhost')) {
    if (path === '') refuse('the repository is missing')
    if (BARE_ID.test(path)) refuse('64 hex digits are an image id, not a name')
    return { registry: DEFAULT_REGISTRY, repository: slash < 0 ? OFFICIAL_PREFIX + path : path }
  }
  const host = HOST.exec(first)
  if (host === null || Number(host[1] ?? 1) > 65535 || host[1] === '0')
    refuse(`the registry ${JSON.stringify(first)} is not a host with an optional port`)
  if (first.startsWith('[') && !URL.canParse(`http://${first}/`))
    refuse(`the registry ${JSON.stringify(first)} is not an IPv6 address`)
  const rest = path.slice(slash + 1)
  const registry = first === 'index.docker.io' || first === DEFAULT_REGISTRY_HOST ? DEFAULT_REGISTRY : first
  return { registry, repository: registry === DEFAULT_REGISTRY && !rest.includes('/') ? OFFICIAL_PREFIX + rest : rest }
}
