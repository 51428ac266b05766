/** Writes answers: no faster than the client reads, not for ever, and never a clean end after a failure. */
import type { ServerResponse } from 'node:http'
import type { Clock } from '../../src/base/clock.ts'
import { DarnerError } from '../../src/base/errors.ts'
import { abortable } from '../../src/base/signals.ts'

/** A client that takes no byte for this long is let go. */
export const SLOW_CLIENT_MS = 60_000

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

/** As {@link send}, until the kernel has the bytes: the caller may use their memory again. What fails breaks the connection. */
export async function sendThrough(outlet: Outlet, bytes: Uint8Array): Promise<void> {
  const { response, signal } = outlet
  signal.throwIfAborted()
  const written = Promise.withResolvers<void>()
  response.write(bytes, (error) => {
    if (error) written.reject(new DarnerError('INTERRUPTED', 'the client left', { cause: error }))
    else written.resolve()
  })
  try {
    await taken(outlet, written.promise)
  } catch (error) {
    // what waits to be sent leaves from that memory
    breakOff(response)
    throw error
  }
}

/** Waits for the client, not for ever. */
async function taken({ clock, signal }: Outlet, done: Promise<void>): Promise<void> {
  const over = new AbortController()
  const late = clock.sleep(SLOW_CLIENT_MS, { signal: over.signal }).then(() => {
    throw new DarnerError('TIMED_OUT', `the client took no byte for ${SLOW_CLIENT_MS} ms`)
  })
  late.catch(() => {})
  try {
    await abortable(Promise.race([done, late]), signal)
  } finally {
    done.catch(() => {})
    over.abort('taken')
  }
}

/** Ends an answer that can't be finished: the connection breaks, so that nobody takes it for whole. */
export function breakOff(response: ServerResponse): void {
  response.socket?.destroy()
  response.destroy()
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
