/** Whether a folder has room for a bench's files, before it begins. */
import { statfs } from 'node:fs/promises'

const MIB = 1024 ** 2

/** Throws RangeError, which names `--dir`, when fewer than `needed` bytes are free below a folder. */
export async function checkRoom(folder: string, needed: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  if (free >= needed) return
  const mib = (bytes: number) => `${Math.round(bytes / MIB)} MiB`
  throw new RangeError(`--dir ${folder}: ${mib(needed)} are needed there, ${mib(free)} are free`)
}
