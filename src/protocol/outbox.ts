/** The sending half of a session: a bounded queue of frames, written by one writer, small ones together. */
import { asDarnerError, DarnerError } from '../core/errors.ts'
import { Scope } from '../core/scope.ts'
import { abortable } from '../core/signals.ts'
import { MAX_QUEUED_BYTES, STREAM_CHUNK_BYTES, WRITE_STALL_MS } from './constants.ts'
import type { PeerStream } from './stream.ts'

interface Outgoing {
  readonly frame: Uint8Array
  readonly settle: (error?: Error) => void
}

const IGNORE = () => undefined

/** Owns neither stream nor session; notifies its owner once when sending can't go on. */
export class Outbox {
  readonly #stream: PeerStream
  readonly #name: string
  readonly #broken: (error: DarnerError) => void
  readonly #scope = new Scope()
  readonly #queue: Outgoing[] = []
  #queuedBytes = 0
  #writing: Promise<void> | undefined
  #writtenMs = performance.now()
  #over: Error | undefined

  constructor(stream: PeerStream, name: string, broken: (error: DarnerError) => void) {
    this.#stream = stream
    this.#name = name
    this.#broken = broken
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** Milliseconds since something was last written; 0 while a write waits. */
  quietMs(nowMs: number): number {
    return this.#writing === undefined ? nowMs - this.#writtenMs : 0
  }

  /** Queues one frame. `settle` is called when the frame was handed to the stream, or with the reason why it never will be. */
  post(frame: Uint8Array, settle: (error?: Error) => void = IGNORE): void {
    if (this.#over === undefined && this.#queuedBytes + frame.byteLength > MAX_QUEUED_BYTES) {
      this.#broken(new DarnerError('PEER_STALLED', `${this.#name}: ${this.#queuedBytes} bytes wait to be received`))
    }
    if (this.#over !== undefined) {
      settle(this.#over)
      return
    }
    this.#queuedBytes += frame.byteLength
    this.#queue.push({ frame, settle })
    if (this.#writing !== undefined) return
    const written = Promise.withResolvers<void>()
    this.#writing = written.promise
    this.#scope.run(async (signal) => {
      // a microtask later, so that messages of one turn leave together
      await Promise.resolve()
      while (this.#queue.length > 0 && (await this.#writeBatch(signal)));
      this.#writing = undefined
      written.resolve()
    })
  }

  /** Takes no more frames; those queued go out first, then `last`. Throws the signal's reason or what the stream threw. */
  async finish(error: Error, last: Uint8Array | undefined, { signal }: { signal: AbortSignal }): Promise<void> {
    if (last !== undefined) this.post(last)
    this.#over = error
    if (this.#writing !== undefined) await abortable(this.#writing, signal)
  }

  /** Drops what is queued and ends the writer. */
  async stop(error: Error): Promise<void> {
    this.#over ??= error
    for (const one of this.#queue.splice(0)) one.settle(error)
    this.#queuedBytes = 0
    await this.#scope.close(error)
  }

  async #writeBatch(signal: AbortSignal): Promise<boolean> {
    const batch = takeBatch(this.#queue)
    const bytes = joined(batch.map((one) => one.frame))
    this.#writtenMs = performance.now()
    let failure: DarnerError | undefined
    try {
      await this.#watched(this.#stream.write(bytes, { signal }))
      this.#queuedBytes -= bytes.byteLength
    } catch (error) {
      failure = asDarnerError(error, this.#name)
    }
    for (const one of batch) one.settle(failure)
    if (failure !== undefined && !signal.aborted) this.#broken(failure)
    return failure === undefined && !signal.aborted
  }

  /** Waits for a write; one that doesn't move for too long breaks the session, whatever the heartbeat says. */
  async #watched(writing: Promise<void>): Promise<void> {
    const timer = setTimeout(() => {
      this.#broken(new DarnerError('PEER_STALLED', `${this.#name}: a write did not move for ${WRITE_STALL_MS} ms`))
    }, WRITE_STALL_MS)
    timer.unref()
    try {
      await writing
    } finally {
      clearTimeout(timer)
    }
  }
}

/** The longest run of queued frames that fits one chunk, at least one. */
function takeBatch(queue: Outgoing[]): Outgoing[] {
  let bytes = 0
  let count = 0
  for (const { frame } of queue) {
    bytes += frame.byteLength
    if (count > 0 && bytes > STREAM_CHUNK_BYTES) break
    count++
  }
  return queue.splice(0, count)
}

/** One buffer, so that a burst of small frames costs one encryption and one write. */
function joined(frames: readonly Uint8Array[]): Uint8Array {
  const [first] = frames
  return frames.length === 1 && first !== undefined ? first : Buffer.concat(frames)
}
