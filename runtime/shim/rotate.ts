/** Log rotation: `log` becomes `log.1`, what was that `log.2`, and so on; conmon opens `log` anew. */
import { rename, rm, stat } from 'node:fs/promises'
import { systemCode } from '../../src/core/errors.ts'
import type { Bundle } from './bundle.ts'
import { reopenLog } from './conmon.ts'

/**
 * Rotates when the log is longer than `maxBytes`, keeping `maxFiles` files in all. No line is lost: until conmon reopens the log, it writes
 * on into the renamed file. An agent that ended between the two is mended by the next call. True when it rotated.
 */
export async function rotateIfLong(bundle: Bundle, limits: { maxBytes: number; maxFiles: number }): Promise<boolean> {
  const bytes = await sizeOf(bundle.log)
  if (bytes === undefined) {
    // renamed by an agent that ended before it notified conmon
    if ((await sizeOf(`${bundle.log}.1`)) !== undefined) await reopenLog(bundle)
    return false
  }
  if (bytes <= limits.maxBytes) return false
  const rotated = Math.max(1, limits.maxFiles - 1)
  await rm(`${bundle.log}.${rotated}`, { force: true })
  for (let number = rotated - 1; number >= 1; number--)
    await move(`${bundle.log}.${number}`, `${bundle.log}.${number + 1}`)
  await move(bundle.log, `${bundle.log}.1`)
  await reopenLog(bundle)
  return true
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

async function move(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error
  })
}
