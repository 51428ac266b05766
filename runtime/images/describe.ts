/** What a registry has under a name: its manifest or index, and for which platforms, without pulling any of it. */
import type { Digest } from '../../src/core/digest.ts'
import { readConfig } from '../../src/oci/image-config.ts'
import { type Platform, parseImageConfig } from '../../src/oci/manifest.ts'
import { familiarReference, manifestReference, originOf } from '../../src/oci/reference.ts'
import { fetchManifest, openBlob, type PullParts, type PullRequest } from './pull.ts'

export interface DescribedImage {
  readonly mediaType: string
  readonly digest: Digest
  readonly bytes: number
  readonly platforms: readonly Platform[]
}

/** Throws what the origin threw, MANIFEST_INVALID, UNSUPPORTED, DIGEST_MISMATCH. */
export async function describeImage(
  request: Omit<PullRequest, 'platform'>,
  parts: Pick<PullParts, 'content'>,
): Promise<DescribedImage> {
  const origin = originOf(request.reference, { plainHttp: request.plainHttp })
  const { parsed, digest, mediaType, bytes } = await fetchManifest(
    origin,
    manifestReference(request.reference),
    request,
    parts,
  )
  const facts = { mediaType, digest, bytes }
  if (parsed.kind === 'index')
    return { ...facts, platforms: parsed.index.manifests.flatMap(({ platform }) => platform ?? []) }
  const { body } = await readConfig(parsed.manifest.config, {
    name: familiarReference(request.reference),
    open: () => openBlob({ ...origin, collection: 'blobs' }, parsed.manifest.config, request, parts),
    signal: request.signal,
  })
  const { os, architecture, variant } = parseImageConfig(body)
  return { ...facts, platforms: [{ os, architecture, ...(variant ? { variant } : {}) }] }
}
