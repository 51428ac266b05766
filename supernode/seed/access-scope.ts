/** Names places at an origin, and which of them have proven that they really serve a blob. */
import { createHash } from 'node:crypto'
import type { Credential, Origin, UrlOrigin } from '../../src/core/task/origin.ts'
import { UNPROVEN } from '../../src/protocol/pass.ts'

/** Request headers that give nobody a right. */
const PLAIN_HEADERS = new Set(['accept', 'accept-encoding', 'accept-language', 'user-agent'])

/**
 * The place that a right is bound to: `UPSTREAM/REPOSITORY`, or the URL. It is kept on disk and shown to other peers inside
 * passes, so a query, headers and a tag, which may be secrets, are in it as a hash only.
 */
export function scopeOf(origin: Origin): string {
  if (origin.kind === 'registry') return `${origin.upstream}/${origin.repository}`
  const url = new URL(origin.url)
  const plain = `${url.origin}${url.pathname}`
  const secrets = [url.search, ...rightfulHeaders(origin), ...(origin.tag === undefined ? [] : [`tag ${origin.tag}`])]
  if (plain.length <= 600 && secrets.every((one) => one === '')) return plain
  const hash = createHash('sha256')
    .update(JSON.stringify([plain, secrets]))
    .digest('hex')
  return `${plain.slice(0, 600)}#${hash}`
}

/** Whether the request itself may carry rights, apart from any credential: then what it brings isn't open to all. */
export function carriesRights(origin: Origin): boolean {
  return (
    origin.kind === 'url' &&
    (new URL(origin.url).search !== '' || rightfulHeaders(origin).length > 0 || origin.tag !== undefined)
  )
}

function rightfulHeaders(origin: UrlOrigin): string[] {
  return Object.entries(origin.headers ?? {})
    .map(([name, value]) => `${name.toLowerCase()}: ${value}`)
    .filter((line) => !PLAIN_HEADERS.has(line.slice(0, line.indexOf(':'))))
    .sort()
}

/** Tells credentials apart without keeping them: a short one-way name, stable within this process only by its key. */
export class CredentialNames {
  readonly #key: Uint8Array

  constructor(key: Uint8Array) {
    this.#key = key
  }

  of(credential: Credential | undefined): string {
    if (credential === undefined) return 'anonymous'
    return createHash('sha256').update(this.#key).update(JSON.stringify(credential)).digest('base64url')
  }
}

/**
 * What is known of who may read one blob. Whoever a scope serves may have what was read through it. A scope counts for what
 * others hold of the blob only once it has served the blob whole, with its digest: a right never follows from knowing a
 * digest, nor from an origin of one's own that merely says yes.
 */
export interface Access {
  /** Scopes that served the whole blob; true where they did so without any credential. */
  readonly scopes: Map<string, boolean>
  /** The scope that is being read through and has proven nothing yet. */
  reading?: { readonly scope: string; readonly open: boolean } | undefined
}

/** The scope of a pass that opens only what was read through this very scope, by the one who serves as by the one who asks. */
export function unproven(scope: string): string {
  return `${UNPROVEN}${scope}`
}

export function isPublic(access: Access): boolean {
  for (const open of access.scopes.values()) if (open) return true
  return false
}
