/** Deadlines and cancellation as abort signals. */

/** What each joined signal follows: held as long as it is. */
const followed = new WeakMap<AbortSignal, readonly AbortSignal[]>()

/**
 * Aborts with the first of `signals` that does. Node's own `AbortSignal.any` holds its sources weakly. A timeout that is collected before
 * it fires never aborts the result, so the deadline is lost.
 */
export function anySignal(signals: readonly AbortSignal[]): AbortSignal {
  const joined = AbortSignal.any([...signals])
  followed.set(joined, signals)
  return joined
}

/** `signal`, or a timeout of `ms`, whichever comes first. */
export function withDeadline(signal: AbortSignal, ms: number): AbortSignal {
  return anySignal([signal, AbortSignal.timeout(ms)])
}

/**
 * As {@link withDeadline}, for work that is mostly over long before. The timer ends with the work; otherwise it would later make an error
 * that nobody sees.
 */
export function endingDeadline(signal: AbortSignal, ms: number): Disposable & { readonly signal: AbortSignal } {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(new DOMException(`not done in ${ms} ms`, 'TimeoutError')), ms)
  return { signal: anySignal([signal, late.signal]), [Symbol.dispose]: () => clearTimeout(timer) }
}

/** Aborts when the client of this answer leaves, or has all of it: its connection may be used again and again. */
export function goneOf(response: { once(event: 'close', listener: () => void): unknown }): AbortController {
  const gone = new AbortController()
  response.once('close', () => gone.abort(new DOMException('the client left', 'AbortError')))
  return gone
}

/** Rejects with the signal's reason when it aborts first. Otherwise settles as `promise` does, whose failure is handled in any case. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {})
    throw signal.reason
  }
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** Iterates until the signal aborts, then rejects with its reason, also while waiting for the next item. */
export async function* untilAborted<T>(items: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = items[Symbol.asyncIterator]()
  for (;;) {
    const next = await abortable(iterator.next(), signal)
    if (next.done) return
    yield next.value
  }
}
