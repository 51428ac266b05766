/**
 * Names the process that has a store open. The guard itself is `level`'s lock on meta/, which the kernel releases however its holder ends.
 * A file left behind here blocks nobody: it only names the holder.
 */
import { readFile, rm } from 'node:fs/promises'
import { DarnerError, isDarnerError } from '../core/errors.ts'
import { replaceFile } from '../core/files.ts'

interface Holder {
  readonly pid: number
  /** Clock ticks since boot, from /proc/PID/stat: they distinguish a process from a later one with the same number. */
  readonly started: string
}

/** Writes this process's name; call once the guard is held. On a full disk nobody is named. */
export async function writeHolder(path: string): Promise<void> {
  const holder: Holder = { pid: process.pid, started: (await startedAt(process.pid)) ?? '' }
  try {
    await replaceFile(path, `${JSON.stringify(holder)}\n`)
  } catch (error) {
    if (!isDarnerError(error, 'DISK_FULL')) throw error
    await removeHolder(path) // the named process has ended
  }
}

export async function removeHolder(path: string): Promise<void> {
  await rm(path, { force: true })
}

/** The error for a directory that another process holds; names that process when it can be seen from here. */
export async function lockedError(directory: string, path: string, cause: unknown): Promise<DarnerError> {
  const holder = await readHolder(path)
  const alive = holder !== undefined && (await startedAt(holder.pid)) === holder.started
  const who = alive ? `process ${holder.pid}` : 'another process'
  return new DarnerError('STORE_LOCKED', `open store ${directory}: ${who} has it open`, {
    cause,
    details: { directory, pid: alive ? holder.pid : undefined },
    way: alive ? `stop process ${holder.pid} or choose another --data directory` : 'choose another --data directory',
  })
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const { pid, started } = JSON.parse((await readFile(path, 'utf8')).slice(0, 256))
    if (Number.isSafeInteger(pid) && pid > 0 && typeof started === 'string') return { pid, started }
  } catch {
    // absent or unreadable: only the name in a message depends on it
  }
  return undefined
}

async function startedAt(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // proc(5): the name in brackets may hold anything, so count fields after the last one; start time is field 22
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
