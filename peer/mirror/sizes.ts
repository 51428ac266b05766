/**
 * Lengths of blobs, and their order, as the manifests that passed by state them. A statement, not a fact: a reader of the blob finds out.
 */
import { LRUCache } from 'lru-cache'
import { type Digest, isDigest } from '../../src/core/digest.ts'
import { upTo } from '../../src/core/up-to.ts'

const MAX_KEPT = 32_768
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024
const MAX_DESCRIPTORS = 4096

export interface Stated {
  readonly bytes: number
  /** Which blob of its image it is, the config first. */
  readonly order: number
}

export class Sizes {
  readonly #stated = new LRUCache<Digest, Stated>(upTo(MAX_KEPT))

  of(digest: Digest): Stated | undefined {
    return this.#stated.get(digest)
  }

  /** What was stated turned out to be wrong. */
  forget(digest: Digest): void {
    this.#stated.delete(digest)
  }

  /** Takes note of a manifest's descriptors (image-spec, manifest.md). What is no manifest states nothing. */
  learn(body: Uint8Array): void {
    if (body.byteLength > MAX_MANIFEST_BYTES) return
    let manifest: unknown
    try {
      manifest = JSON.parse(Buffer.from(body).toString())
    } catch {
      // SyntaxError: another kind of thing
      return
    }
    if (typeof manifest !== 'object' || manifest === null) return
    const { config, layers, blobs } = manifest as Record<string, unknown>
    const listed = [layers, blobs].flatMap((one) => (Array.isArray(one) ? one.slice(0, MAX_DESCRIPTORS) : []))
    for (const [order, one] of [config, ...listed].entries()) {
      if (typeof one !== 'object' || one === null) continue
      const { digest, size } = one as Record<string, unknown>
      if (typeof digest !== 'string' || !isDigest(digest)) continue
      if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) continue
      this.#stated.set(digest, { bytes: size, order })
    }
  }
}
