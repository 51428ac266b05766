/** Where a layer's blob may lie: at the image's registry, and a foreign layer at the URLs of its descriptor too. */
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { type Origin, originName, type RegistryOrigin } from '../../src/core/task/origin.ts'
import type { Descriptor } from '../../src/oci/manifest.ts'
import { isForeignLayer } from '../../src/oci/media-types.ts'

/** URLs of one layer that are tried. */
const MAX_URLS = 8
/** Failures of this host, which it would meet at another place too. */
const OUR_OWN: ReadonlySet<string> = new Set([
  'DISK_FULL',
  'LIMIT_EXCEEDED',
  'CLOSED',
  'INTERNAL',
  'HOST_UNABLE',
  'STORE_CORRUPT',
])

/** That a place gave other bytes than the digest's, or what looks so. */
const WRONG: ReadonlySet<string> = new Set(['DIGEST_MISMATCH', 'LAYER_INVALID'])

/** The registry first (image-spec, layer.md, "Non-Distributable Layers": it need not have such a layer, but may). */
export function placesOf(
  registry: Omit<RegistryOrigin, 'collection'>,
  { mediaType, urls }: Pick<Descriptor, 'mediaType' | 'urls'>,
): readonly [Origin, ...Origin[]] {
  const named = isForeignLayer(mediaType) ? (urls ?? []).filter(isHttp).slice(0, MAX_URLS) : []
  return [{ ...registry, collection: 'blobs' }, ...named.map((url) => ({ kind: 'url', url }) as const)]
}

/**
 * The result of `take` at the first place where it doesn't throw. `take` gets the places that were wrong before. With one place only, its
 * error is thrown; with several, the error names all. Throws the signal's reason.
 */
export async function fromFirst<T>(
  what: string,
  places: readonly Origin[],
  take: (place: Origin, wrongAt: readonly Origin[]) => Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  let last: DarnerError | undefined
  const told: string[] = []
  const wrongAt: Origin[] = []
  for (const place of places) {
    try {
      return await take(place, [...wrongAt])
    } catch (error) {
      signal.throwIfAborted()
      const failure = asDarnerError(error, `${what} at ${originName(place)}`)
      if (places.length === 1 || OUR_OWN.has(failure.code)) throw failure
      if (WRONG.has(failure.code)) wrongAt.push(place)
      last = failure
      const { message } = failure
      told.push(message.includes(originName(place)) ? message : `${originName(place)}: ${message}`)
    }
  }
  throw new DarnerError(
    last?.code ?? 'INTERNAL',
    `${what}: neither its registry nor the URLs of its descriptor gave it: ${told.join('; ')}`,
    { cause: last },
  )
}

/** Without a name and password: an image must not make a host log in somewhere with words of the image's. */
function isHttp(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { protocol, username, password } = new URL(url)
  return (protocol === 'http:' || protocol === 'https:') && username === '' && password === ''
}
