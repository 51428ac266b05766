/** Writes answers: no faster than the client reads, not for ever, and never a clean end after a failure. */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'

/** A client that takes no byte for this long is let go. */
export const SLOW_CLIENT_MS = 60_000
/** For so long a connection stays open to a client that was sent away. */
const LINGER_MS = 1_000

/** Where an answer goes: a part of an {@link Ask}. */
export interface Outlet {
  readonly response: ServerResponse
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** Hands bytes to the client and waits while it is behind. Throws TIMED_OUT for one that stopped reading, or the signal's reason. */
export async function send(outlet: Outlet, bytes: Uint8Array): Promise<void> {
  const { response, signal } = outlet
  signal.throwIfAborted()
  if (response.write(bytes)) return
  const drained = Promise.withResolvers<void>()
  response.once('drain', drained.resolve)
  try {
    await taken(outlet, drained.promise)
  } finally {
    response.off('drain', drained.resolve)
  }
}

/**
 * A body on its way to its client, with one timer and one listener for all of it. With hundreds of answers at once, what each chunk makes
 * would be most of the heap.
 */
export class Sending implements Disposable {
  readonly #outlet: Outlet
  readonly #over = new AbortController()
  #waiting: PromiseWithResolvers<void> | undefined
  #sinceMs = 0
  #watching = false

  constructor(outlet: Outlet) {
    this.#outlet = outlet
    outlet.signal.addEventListener('abort', this.#left, { once: true })
  }

  /**
   * As {@link send}, until the kernel has the bytes: the caller may use their memory again, also when this throws. One call at a
   * time.
   */
  async through(bytes: Uint8Array): Promise<void> {
    const { response, clock, signal } = this.#outlet
    signal.throwIfAborted()
    const waiting = Promise.withResolvers<void>()
    this.#waiting = waiting
    this.#sinceMs = clock.monotonicMs()
    if (!this.#watching) void this.#watch()
    response.write(bytes, this.#written)
    try {
      await waiting.promise
    } catch (error) {
      // what waits to be sent leaves from that memory
      breakOff(response)
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.#outlet.signal.removeEventListener('abort', this.#left)
    this.#over.abort()
  }

  readonly #written = (error?: Error | null) => {
    if (error) this.#fail(new DarnerError('INTERRUPTED', 'the client left', { cause: error }))
    this.#waiting?.resolve()
    this.#waiting = undefined
  }

  readonly #left = () => this.#fail(this.#outlet.signal.reason)

  #fail(reason: unknown): void {
    this.#waiting?.reject(reason)
    this.#waiting = undefined
  }

  /** Lets go of a client that takes nothing. Never rejects. */
  async #watch(): Promise<void> {
    const { clock } = this.#outlet
    this.#watching = true
    try {
      for (let restMs = SLOW_CLIENT_MS; restMs > 0; ) {
        await clock.sleep(restMs, { signal: this.#over.signal })
        restMs = this.#waiting === undefined ? SLOW_CLIENT_MS : this.#sinceMs + SLOW_CLIENT_MS - clock.monotonicMs()
      }
      this.#fail(tooSlow())
    } catch {
      // the signal's reason: the body is sent
    }
  }
}

function tooSlow(): DarnerError {
  return new DarnerError('TIMED_OUT', `the client took no byte for ${SLOW_CLIENT_MS} ms`)
}

/** Waits for the client, not for ever. */
async function taken({ clock, signal }: Outlet, done: Promise<void>): Promise<void> {
  const over = new AbortController()
  const late = clock.sleep(SLOW_CLIENT_MS, { signal: over.signal }).then(() => {
    throw tooSlow()
  })
  late.catch(() => {})
  try {
    await abortable(Promise.race([done, late]), signal)
  } finally {
    done.catch(() => {})
    over.abort('taken')
  }
}

const brokenOff = new WeakSet<ServerResponse>()

/** Ends an answer that can't be finished: the connection breaks, so that nobody takes it for whole. */
export function breakOff(response: ServerResponse): void {
  const { socket } = response
  if (socket?.destroyed === false && socket.errored === null) brokenOff.add(response)
  socket?.destroy()
  response.destroy()
}

/** Whether it was {@link breakOff} that ended it, and not its client. */
export function wasBrokenOff(response: ServerResponse): boolean {
  return brokenOff.has(response)
}

/** Says `text` and closes: the client has a moment to read it and to close its end too, and isn't waited for. */
export function lastWords(socket: Socket, text: string): void {
  const late = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(late))
  socket.on('error', () => socket.destroy())
  socket.end(text)
}

/** A short answer with its whole body; for HEAD its headers only. */
export function sendWhole(
  response: ServerResponse,
  answer: {
    readonly status: number
    readonly headers: Readonly<Record<string, string | readonly string[]>>
    readonly body: Uint8Array | string
    readonly head: boolean
  },
): void {
  const body = Buffer.from(answer.body)
  response.writeHead(answer.status, {
    ...(answer.headers as Record<string, string | string[]>),
    'content-length': String(body.byteLength),
  })
  response.end(answer.head ? undefined : body)
}
