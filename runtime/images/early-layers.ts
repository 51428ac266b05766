/** Layers that are opened while the config is still read, which says what they unpack to: a round trip that their bytes use. */
import type { Content } from '../../src/core/contracts/content.ts'
import type { Digest } from '../../src/core/digest.ts'
import type { Descriptor } from '../../src/oci/manifest.ts'

/** Of a shorter one the round trip would not be seen. */
const LEAST_BYTES = 1024 * 1024
/**
 * How long a config may take first. Where a registry is very near, layers come as fast as this host takes them, and the config behind them.
 */
const PATIENCE_MS = 20

export interface EarlyOptions {
  readonly most: number
  readonly known: ReadonlySet<Digest>
  readonly open: (layer: Descriptor) => Promise<Content>
}

export class EarlyLayers implements AsyncDisposable {
  readonly #opening = new Map<Digest, Promise<Content>>()
  #timer: NodeJS.Timeout | undefined

  /** If the config takes long, opens the first `most` of `layers` that are large, have one place only and aren't `known`. */
  begin(layers: readonly Descriptor[], options: EarlyOptions): void {
    this.#timer = setTimeout(() => this.#open(layers, options), PATIENCE_MS)
  }

  /** The config is there: no more are opened. */
  end(): void {
    clearTimeout(this.#timer)
  }

  #open(layers: readonly Descriptor[], { most, known, open }: EarlyOptions): void {
    for (const layer of layers) {
      if (this.#opening.size === most) return
      const elsewhere = (layer.urls ?? []).length > 0
      if (layer.size < LEAST_BYTES || elsewhere || known.has(layer.digest) || this.#opening.has(layer.digest)) continue
      const opening = open(layer)
      opening.catch(() => {}) // the taker gets the failure
      this.#opening.set(layer.digest, opening)
    }
  }

  /** The caller's from here on; undefined where it was not begun. */
  take(digest: Digest): Promise<Content> | undefined {
    const opening = this.#opening.get(digest)
    this.#opening.delete(digest)
    return opening
  }

  /** It isn't needed. */
  leave(digest: Digest): void {
    void this.take(digest)?.then(
      (content) => content[Symbol.asyncDispose](),
      () => {},
    )
  }

  /** Closes those that nobody took. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.end()
    const left = await Promise.allSettled(this.#opening.values())
    this.#opening.clear()
    for (const one of left) if (one.status === 'fulfilled') await one.value[Symbol.asyncDispose]()
  }
}
