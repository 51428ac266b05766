/** Where a blob can be read when the swarm doesn't hold it, and with whose rights. Shapes are bounded: they cross the wire. */
import { type Static, type TRefine, type TString, Type } from 'typebox'

function isHttpUrl(text: string): boolean {
  return /^https?:/i.test(text) && URL.canParse(text)
}

/** An http or https URL; its length is checked first. */
function HttpUrl(maxLength: number): TRefine<TString> {
  return Type.Refine(
    Type.String({ maxLength }),
    (text) => text.length <= maxLength && isHttpUrl(text),
    () => 'must be an http or https URL',
  )
}

/** The base URL of a registry: `https://registry.example:5000`. */
export const UpstreamUrl = HttpUrl(512)
/** The characters of a repository's name; whether it is one is seen where it is read. */
export const RepositoryName = Type.String({ pattern: '^[a-z0-9][a-z0-9._/-]*$', maxLength: 255 })

/** A blob of a repository on a registry (distribution-spec). `upstream` is a base URL: `https://registry.example:5000`. */
export const RegistryOrigin = Type.Object(
  {
    kind: Type.Literal('registry'),
    upstream: UpstreamUrl,
    repository: RepositoryName,
    /** `manifests` for a manifest by digest, `blobs` for everything else. */
    collection: Type.Union([Type.Literal('blobs'), Type.Literal('manifests')]),
  },
  { additionalProperties: false },
)

/** Any URL, with the request headers that the content depends on, and a tag that keeps it apart from the same URL without. */
export const UrlOrigin = Type.Object(
  {
    kind: Type.Literal('url'),
    url: HttpUrl(8192),
    headers: Type.Optional(
      Type.Record(Type.String({ maxLength: 128 }), Type.String({ maxLength: 8192 }), { maxProperties: 64 }),
    ),
    tag: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
  },
  { additionalProperties: false },
)

export const Origin = Type.Union([RegistryOrigin, UrlOrigin])
export type Origin = Static<typeof Origin>
export type RegistryOrigin = Static<typeof RegistryOrigin>
export type UrlOrigin = Static<typeof UrlOrigin>

/** A reader's own rights at the origin. Never logged, never stored, never sent to another host than the one it is for. */
export const Credential = Type.Union([
  Type.Object(
    {
      kind: Type.Literal('basic'),
      username: Type.String({ maxLength: 1024 }),
      password: Type.String({ maxLength: 16384 }),
    },
    { additionalProperties: false },
  ),
  /** A header value as the client sent it: `Bearer …` or `Basic …`. */
  Type.Object(
    { kind: Type.Literal('header'), value: Type.String({ maxLength: 32768 }) },
    { additionalProperties: false },
  ),
  /** A refresh ("identity") token for the registry's token server. */
  Type.Object(
    { kind: Type.Literal('refresh'), token: Type.String({ maxLength: 32768 }) },
    { additionalProperties: false },
  ),
  /** The part of a URL's query that gives a right and changes nothing else, as a signed URL has it: `X-Amz-Signature=…&…`. */
  Type.Object(
    { kind: Type.Literal('query'), value: Type.String({ minLength: 1, maxLength: 8192 }) },
    { additionalProperties: false },
  ),
])
export type Credential = Static<typeof Credential>

/** A short name of an origin for logs and errors; no query, no user info. */
export function originName(origin: Origin): string {
  if (origin.kind === 'registry') return `${origin.upstream}/${origin.repository}`
  try {
    const url = new URL(origin.url)
    return `${url.protocol}//${url.host}${url.pathname}`
  } catch {
    return 'an unreadable URL'
  }
}
