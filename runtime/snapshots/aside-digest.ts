/** SHA-256 of a stream, in the thread pool while its owner does something else with the same bytes, by the OpenSSL that Node has inside. */

import { type Digest, Digester } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { inPool, ownFunctions } from '../../src/core/own-library.ts'

const DIGEST_BYTES = 32
/** Node's own functions; undefined where it was built without them. */
const native = ownFunctions((own) => ({
  create: own('void *EVP_MD_CTX_new()'),
  free: own('void EVP_MD_CTX_free(void *context)'),
  sha256: own('const void *EVP_sha256()'),
  begin: own('int EVP_DigestInit_ex(void *context, const void *kind, void *engine)'),
  update: own('int EVP_DigestUpdate(void *context, const void *bytes, size_t length)'),
  end: own('int EVP_DigestFinal_ex(void *context, void *into, void *length)'),
}))

export interface AsideDigest extends Disposable {
  /** Bytes that are hashed so far. */
  readonly bytes: number
  /** Call it when the one before is settled; leave `chunk` alone until then. */
  update(chunk: Uint8Array): Promise<void>
  /** Ends the stream; call once. */
  finish(): Digest
}

/** Of any algorithm but SHA-256, and where this Node doesn't let others at what it has inside, it is done at once. */
export function asideDigest(algorithm: 'sha256' | 'sha512'): AsideDigest {
  return native === undefined || algorithm !== 'sha256' ? new AtOnce(algorithm) : new Aside(native)
}

class Aside implements AsideDigest {
  readonly #native: NonNullable<typeof native>
  readonly #context: unknown
  #bytes = 0

  constructor(functions: NonNullable<typeof native>) {
    this.#native = functions
    const context: unknown = functions.create()
    if (context === null || functions.begin(context, functions.sha256(), null) !== 1)
      throw new DarnerError('INTERNAL', 'starting to hash: no memory')
    this.#context = context
  }

  get bytes(): number {
    return this.#bytes
  }

  async update(chunk: Uint8Array): Promise<void> {
    const done = await inPool(this.#native.update, this.#context, chunk, chunk.byteLength)
    this.#bytes += chunk.byteLength // which keeps its memory until here
    if (done !== 1) throw new DarnerError('INTERNAL', 'hashing failed')
  }

  finish(): Digest {
    const into = Buffer.alloc(DIGEST_BYTES)
    if (this.#native.end(this.#context, into, null) !== 1) throw new DarnerError('INTERNAL', 'hashing failed')
    return `sha256:${into.toString('hex')}` as Digest
  }

  [Symbol.dispose](): void {
    this.#native.free(this.#context)
  }
}

class AtOnce extends Digester implements AsideDigest {
  override async update(chunk: Uint8Array): Promise<void> {
    super.update(chunk)
  }

  [Symbol.dispose](): void {}
}
