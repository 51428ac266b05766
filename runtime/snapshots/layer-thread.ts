/** Has layers written: small ones here, others by a thread (layer-worker.ts), which ends when there was nothing to do for a while. */
import { Worker } from 'node:worker_threads'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable, anySignal } from '../../src/core/signals.ts'
import { LAYER_WORKER_MARK, LAYER_WORKER_URL, type LayerAnswer, type LayerAsk } from './layer-worker.ts'
import { type LayerOrder, type WrittenLayer, writeLayer } from './write-layer.ts'

/** A blob up to this length doesn't bother the thread, whose start takes longer. */
const SMALL_BYTES = 1024 * 1024
/** Handed over at once, in memory that both share: each message wakes the thread. */
const SLOT_BYTES = 512 * 1024
/** Handed over and not taken yet; beyond, the source waits. */
const SLOTS = 8
const IDLE_MS = 10_000
/** Its data is short-lived; what lives is the tree of each layer under way, which may be large. */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 8 } as const

export class LayerThread {
  readonly #running = new Map<number, Job>()
  /** Of layers that are over, for the next ones. */
  #memory: SharedArrayBuffer[] = []
  #worker: Worker | undefined
  #idle: NodeJS.Timeout | undefined
  #next = 0

  /**
   * Throws as {@link writeLayer} does, what the blob's source throws, or the signal's reason; nothing is written any more then. Chunks of
   * `blob` are copied before the next is asked for.
   */
  async write(
    order: LayerOrder,
    blob: AsyncIterable<Uint8Array>,
    { signal }: { signal: AbortSignal },
  ): Promise<WrittenLayer> {
    const source = blob[Symbol.asyncIterator]()
    const first: Uint8Array[] = []
    let bytes = 0
    try {
      while (bytes <= SMALL_BYTES) {
        const next = await abortable(source.next(), signal)
        if (next.done) return await writeLayer(order, each(first), { signal })
        first.push(new Uint8Array(next.value))
        bytes += next.value.byteLength
      }
      return await this.#hand(order, first, source, signal)
    } finally {
      // a source that is stuck would never answer; its opener closes it
      source.return?.().catch(() => {})
    }
  }

  /** A blob of `bytes` is about to come: where it is for the thread, that starts now, and ends again if nothing comes. */
  expect(bytes: number): void {
    if (bytes <= SMALL_BYTES) return
    const worker = this.#thread()
    if (this.#running.size === 0) this.#rest(worker)
  }

  async #hand(
    order: LayerOrder,
    first: readonly Uint8Array[],
    rest: AsyncIterator<Uint8Array>,
    signal: AbortSignal,
  ): Promise<WrittenLayer> {
    const worker = this.#thread()
    const id = this.#next++
    const memory = this.#memory.pop() ?? new SharedArrayBuffer(SLOT_BYTES * SLOTS)
    const job = new Job((ask) => worker.postMessage(ask), id, memory)
    this.#running.set(id, job)
    const abort = () => job.ask({ kind: 'abort', id })
    const either = anySignal([signal, job.failing])
    try {
      job.ask({ kind: 'open', id, order, memory, slotBytes: SLOT_BYTES })
      signal.addEventListener('abort', abort, { once: true })
      for (const chunk of first) await job.give(chunk, either)
      for (;;) {
        const next = await abortable(rest.next(), either)
        if (next.done) break
        await job.give(next.value, either)
      }
      job.end()
      return await job.over
    } catch (error) {
      abort()
      await job.over.catch(() => {}) // nothing is written after this
      throw signal.aborted ? signal.reason : error
    } finally {
      signal.removeEventListener('abort', abort)
      this.#running.delete(id)
      this.#memory.push(memory)
      if (this.#running.size === 0) this.#rest(worker)
    }
  }

  #thread(): Worker {
    clearTimeout(this.#idle)
    this.#worker?.ref()
    if (this.#worker !== undefined) return this.#worker
    const worker = new Worker(LAYER_WORKER_URL, {
      workerData: LAYER_WORKER_MARK,
      name: 'layers',
      resourceLimits: WORKER_LIMITS,
      // else Node warns on stderr of each descriptor that libc opened and fs closes
      trackUnmanagedFds: false,
    })
    worker.on('message', (answer: LayerAnswer) => this.#running.get(answer.id)?.hear(answer))
    const gone = (cause: unknown) => {
      if (this.#worker !== worker) return
      this.#worker = undefined
      for (const job of this.#running.values())
        job.fail(new DarnerError('INTERNAL', 'the thread that unpacks layers ended', { cause }))
    }
    worker.on('error', gone)
    worker.on('exit', gone)
    this.#worker = worker
    return worker
  }

  #rest(worker: Worker): void {
    worker.unref()
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => {
      if (this.#worker !== worker) return
      this.#worker = undefined
      this.#memory = []
      void worker.terminate()
    }, IDLE_MS).unref()
  }
}

/** One layer at the thread. */
class Job {
  readonly #post: (ask: LayerAsk) => void
  readonly #id: number
  readonly #memory: SharedArrayBuffer
  readonly #over = Promise.withResolvers<WrittenLayer>()
  readonly #failing = new AbortController()
  /** The slot that fills, counted from the first one on, and how far it is filled. */
  #slot = 0
  #filled = 0
  #slotsTaken = 0
  #taken = Promise.withResolvers<void>()

  constructor(post: (ask: LayerAsk) => void, id: number, memory: SharedArrayBuffer) {
    this.#post = post
    this.#id = id
    this.#memory = memory
    this.#over.promise.catch(() => {}) // reported where it is awaited
  }

  get over(): Promise<WrittenLayer> {
    return this.#over.promise
  }

  /** Aborts when the layer fails, with what failed it. For waits: a promise would keep each that ever raced against it. */
  get failing(): AbortSignal {
    return this.#failing.signal
  }

  ask(ask: LayerAsk): void {
    this.#post(ask)
  }

  /** Takes a copy, once there is room for it. */
  async give(chunk: Uint8Array, signal: AbortSignal): Promise<void> {
    for (let at = 0; at < chunk.byteLength; ) {
      while (this.#slot - this.#slotsTaken >= SLOTS) {
        this.#taken = Promise.withResolvers()
        await abortable(this.#taken.promise, signal)
      }
      const part = chunk.subarray(at, at + SLOT_BYTES - this.#filled)
      new Uint8Array(this.#memory, (this.#slot % SLOTS) * SLOT_BYTES + this.#filled).set(part)
      this.#filled += part.byteLength
      at += part.byteLength
      if (this.#filled === SLOT_BYTES) this.#hand()
    }
  }

  /** Nothing follows what was given. */
  end(): void {
    if (this.#filled > 0) this.#hand()
    this.ask({ kind: 'end', id: this.#id })
  }

  #hand(): void {
    this.#post({ kind: 'data', id: this.#id, slot: this.#slot % SLOTS, bytes: this.#filled })
    this.#slot++
    this.#filled = 0
  }

  hear(answer: LayerAnswer): void {
    if (answer.kind === 'took') {
      this.#slotsTaken++
      this.#taken.resolve()
    } else if (answer.kind === 'done') this.#over.resolve(answer.layer)
    else this.fail(new DarnerError(answer.code, answer.message, { details: answer.details }))
  }

  fail(error: DarnerError): void {
    this.#over.reject(error)
    this.#failing.abort(error)
  }
}

async function* each(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks
}
