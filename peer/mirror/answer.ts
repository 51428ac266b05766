/** Writes answers: no faster than the client reads, not for ever, and never a clean end after a failure. */
import type { ServerResponse } from 'node:http'
import { DarnerError } from '../../src/base/errors.ts'

/** A client that takes no byte for this long is let go. */
export const SLOW_CLIENT_MS = 60_000

/** Hands bytes to the client and waits while it is behind. Throws TIMED_OUT for one that stopped reading, or the signal's reason. */
export async function send(response: ServerResponse, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  if (response.write(bytes)) return
  await new Promise<void>((resolve, reject) => {
    const done = (settle: () => void) => () => {
      clearTimeout(timer)
      response.off('drain', onDrain)
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const onDrain = done(resolve)
    const onAbort = done(() => reject(signal.reason))
    const timer = setTimeout(
      done(() => reject(new DarnerError('TIMED_OUT', `the client took no byte for ${SLOW_CLIENT_MS} ms`))),
      SLOW_CLIENT_MS,
    )
    response.on('drain', onDrain)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** As {@link send}, until the kernel has the bytes: the caller may use their memory again. */
export async function sendThrough(response: ServerResponse, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const done = (settle: () => void) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const onAbort = () => done(() => reject(signal.reason))
    const timer = setTimeout(
      () => done(() => reject(new DarnerError('TIMED_OUT', `the client took no byte for ${SLOW_CLIENT_MS} ms`))),
      SLOW_CLIENT_MS,
    )
    signal.addEventListener('abort', onAbort, { once: true })
    response.write(bytes, (error) =>
      done(() => (error ? reject(new DarnerError('INTERRUPTED', 'the client left', { cause: error })) : resolve())),
    )
  })
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
