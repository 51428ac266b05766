/** Has layers written: small ones here, others by a thread (layer-worker.ts), which ends when there was nothing to do for a while. */
import { Worker } from 'node:worker_threads'
import { DarnerError } from '../../src/base/errors.ts'
import { abortable } from '../../src/base/signals.ts'
import { LAYER_WORKER_MARK, LAYER_WORKER_URL, type LayerAnswer, type LayerAsk } from './layer-worker.ts'
import { type LayerOrder, type WrittenLayer, writeLayer } from './write-layer.ts'

/** A blob up to this length doesn't bother the thread, whose start takes longer. */
const SMALL_BYTES = 1024 * 1024
/** Handed over at once: each message wakes the thread. Shorter than what is mapped for each block (lean-process.ts). */
const HAND_BYTES = 112 * 1024
/** Handed over and not taken yet; beyond, the source waits. */
const AHEAD_BYTES = 4 * 1024 * 1024
const IDLE_MS = 10_000
/** Its data is short-lived; what lives is the tree of each layer under way, which may be large. */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 8 } as const

export class LayerThread {
  readonly #running = new Map<number, Job>()
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
    const hands = gathered(blob, HAND_BYTES)
    const first: Uint8Array<ArrayBuffer>[] = []
    let bytes = 0
    try {
      while (bytes <= SMALL_BYTES) {
        const next = await abortable(hands.next(), signal)
        if (next.done) return await writeLayer(order, each(first), { signal })
        first.push(next.value)
        bytes += next.value.byteLength
      }
      return await this.#hand(order, first, hands, signal)
    } finally {
      // a source that is stuck would never answer; whoever opened it closes it
      hands.return(undefined).catch(() => {})
    }
  }

  async #hand(
    order: LayerOrder,
    first: readonly Uint8Array<ArrayBuffer>[],
    rest: AsyncGenerator<Uint8Array<ArrayBuffer>>,
    signal: AbortSignal,
  ): Promise<WrittenLayer> {
    const worker = this.#thread()
    const id = this.#next++
    const job = new Job((ask, moved) => worker.postMessage(ask, moved), id)
    this.#running.set(id, job)
    const abort = () => job.ask({ kind: 'abort', id })
    const either = AbortSignal.any([signal, job.failing])
    try {
      job.ask({ kind: 'open', id, order })
      signal.addEventListener('abort', abort, { once: true })
      for (const chunk of first) job.give(chunk)
      for (;;) {
        await job.room(either)
        const next = await abortable(rest.next(), either)
        if (next.done) break
        job.give(next.value)
      }
      job.ask({ kind: 'end', id })
      return await job.over
    } catch (error) {
      abort()
      await job.over.catch(() => {}) // nothing is written after this
      throw signal.aborted ? signal.reason : error
    } finally {
      signal.removeEventListener('abort', abort)
      this.#running.delete(id)
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
      void worker.terminate()
    }, IDLE_MS).unref()
  }
}

/** One layer at the thread. */
class Job {
  readonly #post: (ask: LayerAsk, moved?: ArrayBuffer[]) => void
  readonly #id: number
  readonly #over = Promise.withResolvers<WrittenLayer>()
  readonly #failing = new AbortController()
  #aheadBytes = 0
  #taken = Promise.withResolvers<void>()

  constructor(post: (ask: LayerAsk, moved?: ArrayBuffer[]) => void, id: number) {
    this.#post = post
    this.#id = id
    this.#over.promise.catch(() => {}) // told where it is awaited
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

  give(chunk: Uint8Array<ArrayBuffer>): void {
    this.#aheadBytes += chunk.byteLength
    this.#post({ kind: 'data', id: this.#id, chunk }, [chunk.buffer])
  }

  async room(signal: AbortSignal): Promise<void> {
    while (this.#aheadBytes >= AHEAD_BYTES) {
      this.#taken = Promise.withResolvers()
      await abortable(this.#taken.promise, signal)
    }
  }

  hear(answer: LayerAnswer): void {
    if (answer.kind === 'took') {
      this.#aheadBytes -= answer.bytes
      this.#taken.resolve()
    } else if (answer.kind === 'done') this.#over.resolve(answer.layer)
    else this.fail(new DarnerError(answer.code, answer.message, { details: answer.details }))
  }

  fail(error: DarnerError): void {
    this.#over.reject(error)
    this.#failing.abort(error)
  }
}

/** The same bytes in copies of `bytes` each, but the last. */
async function* gathered(source: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let part: Uint8Array<ArrayBuffer> = Buffer.allocUnsafeSlow(bytes)
  let filled = 0
  for await (const chunk of source) {
    for (let at = 0; at < chunk.byteLength; ) {
      const take = Math.min(bytes - filled, chunk.byteLength - at)
      part.set(chunk.subarray(at, at + take), filled)
      filled += take
      at += take
      if (filled < bytes) continue
      yield part
      part = Buffer.allocUnsafeSlow(bytes)
      filled = 0
    }
  }
  if (filled > 0) yield part.subarray(0, filled)
}

async function* each(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks
}
