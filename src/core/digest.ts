/** Content digests (image-spec, descriptor.md, "Digests"): parsed once at the edge, carried inwards as a branded string. */
import { createHash, type Hash } from 'node:crypto'
import { DarnerError } from './errors.ts'

/** `sha256:` + 64 hex digits, or `sha512:` + 128; always lower case. */
export type Digest = string & { readonly __digest: true }

const FORMS = [
  { algorithm: 'sha256', form: /^sha256:[a-f0-9]{64}$/ },
  { algorithm: 'sha512', form: /^sha512:[a-f0-9]{128}$/ },
] as const

/** Throws DIGEST_INVALID unless `text` is a digest of a known algorithm. */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new DarnerError(
      'DIGEST_INVALID',
      `digest ${JSON.stringify(text.slice(0, 160))} is not sha256:<64 hex> or sha512:<128 hex>, in lower case`,
    )
  }
  return text
}

export function isDigest(text: string): text is Digest {
  return FORMS.some(({ form }) => form.test(text))
}

/** The sha256 digest of bytes in memory. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest
}

/** The algorithm part: `sha256` or `sha512`. */
export function algorithmOf(digest: Digest): 'sha256' | 'sha512' {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** The hex part. */
export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** Hashes a stream chunk by chunk. */
export class Digester {
  readonly #hash: Hash
  readonly #algorithm: 'sha256' | 'sha512'
  #bytes = 0

  constructor(algorithm: 'sha256' | 'sha512' = 'sha256') {
    this.#algorithm = algorithm
    this.#hash = createHash(algorithm)
  }

  get bytes(): number {
    return this.#bytes
  }

  update(chunk: Uint8Array): void {
    this.#bytes += chunk.byteLength
    this.#hash.update(chunk)
  }

  /** Ends the stream; call once. */
  finish(): Digest {
    return `${this.#algorithm}:${this.#hash.digest('hex')}` as Digest
  }
}
