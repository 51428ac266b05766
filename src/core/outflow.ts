/** Writing at the reader's pace. */
import type { Writable } from 'node:stream'

/** Writes, and waits for a reader that is behind. A closed output takes nothing. */
export async function put(out: Writable, bytes: Uint8Array): Promise<void> {
  if (out.destroyed || out.write(bytes)) return
  await new Promise<void>((resolve) => {
    const done = () => {
      out.off('drain', done)
      out.off('close', done)
      resolve()
    }
    out.once('drain', done)
    out.once('close', done)
  })
}
