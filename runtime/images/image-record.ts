/** What is kept of an image on this host. */
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'

const DigestText = Type.Unsafe<Digest>(Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$' }))

export const ImageLayer = Type.Object({
  /** Of the blob as the registry holds it. */
  digest: DigestText,
  /** Of its uncompressed tar: the key of the unpacked layer. */
  diffId: DigestText,
  mediaType: Type.String(),
  /** Size of the blob. */
  bytes: Type.Integer({ minimum: 0 }),
})
export type ImageLayer = Static<typeof ImageLayer>

export const ImageRecord = Type.Object({
  /** Digest of the image manifest (never of an index). */
  manifest: DigestText,
  manifestMediaType: Type.String(),
  /** The manifest's exact bytes, as text. */
  manifestText: Type.String(),
  /** Digest of the config: the image's id. */
  config: DigestText,
  configText: Type.String(),
  /** Lowest first. */
  layers: Type.Array(ImageLayer),
  platform: Type.String(),
  /** Epoch milliseconds. */
  pulledAt: Type.Integer(),
  /** The image that a container was made of which this one was committed from. */
  parent: Type.Optional(DigestText),
  /** Where it was pulled from: a host that passes its blobs on reads them there again. Absent of images that were made or loaded here. */
  origin: Type.Optional(
    Type.Object({ upstream: Type.String({ maxLength: 512 }), repository: Type.String({ maxLength: 255 }) }),
  ),
})
export type ImageRecord = Static<typeof ImageRecord>

/** Throws STORE_CORRUPT. */
export function readImageRecord(text: string, key: string): ImageRecord {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new DarnerError('STORE_CORRUPT', `image record ${key}: it is not JSON`, { cause: error })
  }
  if (!Value.Check(ImageRecord, value))
    throw new DarnerError('STORE_CORRUPT', `image record ${key}: it does not fit the schema`)
  return value
}
