/** Holds a stream to a rate. */
import { setTimeout } from 'node:timers/promises'

/** A stream that was held up may catch up so much of it. */
const BURST_MS = 250

/** The same bytes, in parts small enough to come evenly, no faster than `bytesPerSec`; as they are without one. */
export async function* paced(
  stream: AsyncIterable<Uint8Array>,
  bytesPerSec: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (bytesPerSec === undefined) return yield* stream
  const most = Math.max(1, Math.floor((bytesPerSec * BURST_MS) / 1000))
  let dueMs = performance.now()
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.byteLength; at += most) {
      const part = chunk.subarray(at, at + most)
      const now = performance.now()
      dueMs = Math.max(dueMs, now - BURST_MS)
      if (dueMs > now) await setTimeout(dueMs - now, undefined, { signal })
      dueMs += (part.byteLength * 1000) / bytesPerSec
      yield part
    }
  }
}
