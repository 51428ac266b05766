import type { Clock } from './clock.ts'
import { abortable, anySignal } from './signals.ts'

/** True once a promise is settled, well or not; false when it isn't within `withinMs`. Throws the signal's reason. */
export async function settles(
  promise: Promise<unknown>,
  withinMs: number,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<boolean> {
  const settled = () => true
  const over = new AbortController()
  const late = clock.sleep(withinMs, { signal: anySignal([signal, over.signal]) }).then(() => false)
  late.catch(() => {})
  try {
    return await abortable(Promise.race([promise.then(settled, settled), late]), signal)
  } finally {
    over.abort()
  }
}
