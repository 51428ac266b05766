/**
 * The thread that writes layers: it decompresses, hashes, reads the tar and writes, while the event loop downloads. Its heap is
 * small, so that the hundreds of megabytes that pass through cost no collection of the agent's own.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { asDarnerError, type Code, DarnerError, type Details } from '../../src/core/errors.ts'
import { type LayerOrder, type WrittenLayer, writeLayer } from './write-layer.ts'

/** What is asked of it; `id` names a layer under way. `data` lies in a slot of the layer's memory, which is free when it is taken. */
export type LayerAsk =
  | {
      readonly kind: 'open'
      readonly id: number
      readonly order: LayerOrder
      readonly memory: SharedArrayBuffer
      readonly slotBytes: number
    }
  | { readonly kind: 'data'; readonly id: number; readonly slot: number; readonly bytes: number }
  | { readonly kind: 'end'; readonly id: number }
  | { readonly kind: 'abort'; readonly id: number }

/** `took`: the oldest slot is free again. One of the others ends each layer, also an aborted one: nothing of it is open then. */
export type LayerAnswer =
  | { readonly kind: 'took'; readonly id: number }
  | { readonly kind: 'done'; readonly id: number; readonly layer: WrittenLayer }
  | { readonly kind: 'failed'; readonly id: number; readonly code: Code; readonly message: string; details: Details }

/** Where this file is: in a checkout it ends in .ts, in the package in .js. */
export const LAYER_WORKER_URL = new URL(import.meta.url)
export const LAYER_WORKER_MARK = 'darner-layer-worker'

if (!isMainThread && workerData === LAYER_WORKER_MARK && parentPort) serve(parentPort)

function serve(port: NonNullable<typeof parentPort>): void {
  const running = new Map<number, Incoming>()
  const say = (answer: LayerAnswer) => port.postMessage(answer)

  port.on('message', (ask: LayerAsk) => {
    if (ask.kind === 'open') {
      const incoming = new Incoming(ask, () => say({ kind: 'took', id: ask.id }))
      running.set(ask.id, incoming)
      void write(ask.id, ask.order, incoming)
      return
    }
    const incoming = running.get(ask.id)
    if (ask.kind === 'data') incoming?.push(ask.slot, ask.bytes)
    else if (ask.kind === 'end') incoming?.end()
    else incoming?.abort()
  })

  async function write(id: number, order: LayerOrder, incoming: Incoming): Promise<void> {
    try {
      const { signal } = incoming
      say({ kind: 'done', id, layer: await writeLayer(order, incoming.read(), { signal }) })
    } catch (error) {
      const { code, message, details } = asDarnerError(error, `unpacking layer ${order.diffId}`)
      say({ kind: 'failed', id, code, message, details })
    } finally {
      running.delete(id)
    }
  }
}

/** A blob as its chunks are handed over; undefined is its end. */
class Incoming {
  readonly #took: () => void
  readonly #memory: SharedArrayBuffer
  readonly #slotBytes: number
  readonly #ending = new AbortController()
  readonly #chunks: (Uint8Array | undefined)[] = []
  #wake = Promise.withResolvers<void>()

  constructor({ memory, slotBytes }: { memory: SharedArrayBuffer; slotBytes: number }, took: () => void) {
    this.#memory = memory
    this.#slotBytes = slotBytes
    this.#took = took
  }

  get signal(): AbortSignal {
    return this.#ending.signal
  }

  push(slot: number, bytes: number): void {
    this.#chunks.push(new Uint8Array(this.#memory, slot * this.#slotBytes, bytes))
    this.#wake.resolve()
  }

  end(): void {
    this.#chunks.push(undefined)
    this.#wake.resolve()
  }

  abort(): void {
    this.#ending.abort(new DarnerError('INTERRUPTED', 'unpacking a layer was given up'))
    this.#wake.resolve()
  }

  /** Each chunk is good until the next is asked for. */
  async *read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      this.signal.throwIfAborted()
      if (this.#chunks.length === 0) {
        this.#wake = Promise.withResolvers()
        await this.#wake.promise
        continue
      }
      const chunk = this.#chunks.shift()
      if (chunk === undefined) return
      yield chunk
      this.#took()
    }
  }
}
