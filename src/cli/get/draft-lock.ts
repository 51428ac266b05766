/**
 * The current writer of a draft: a link that names its process. It is made and taken over in one step each, and worth nothing once that
 * process has ended.
 */
import { readFileSync, readlinkSync, renameSync, symlinkSync, unlinkSync } from 'node:fs'
import { systemCode } from '../../core/errors.ts'

export interface DraftLock {
  release(): void
}

/** Undefined while another process that lives holds it, or one of another host may. Throws system errors of the folder. */
export function takeDraft(path: string): DraftLock | undefined {
  const own = ownName()
  for (let tries = 0; tries < 8; tries++) {
    try {
      symlinkSync(own, path)
      return { release: () => drop(path) }
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
    }
    const holder = holderOf(path)
    if (holder === undefined) continue
    if (!isOver(holder)) return undefined
    const taken = takeOver(path, holder, own)
    if (taken !== undefined) return taken ? { release: () => drop(path) } : undefined
  }
  return undefined
}

/**
 * Puts our link in place of one whose process has ended. Only one process at a time does so, by a link of its own per dead holder, so none
 * removes what another has just got. False while another does so; undefined when the holder has changed.
 */
function takeOver(path: string, holder: string, own: string): boolean | undefined {
  const turn = `${path}-${holder}`
  try {
    symlinkSync(own, turn)
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw error
  }
  try {
    if (holderOf(path) !== holder) return undefined
    const fresh = `${path}-${process.pid}`
    symlinkSync(own, fresh)
    renameSync(fresh, path)
    return true
  } finally {
    unlinkSync(turn)
  }
}

function holderOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined // ENOENT: released just now
  }
}

function drop(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // ENOENT: somebody took it away, and it is gone all the same
  }
}

/** `HOST.PID.START`: process numbers come again, with their start times they don't. */
function ownName(): string {
  return `${hostName()}.${process.pid}.${startOf(process.pid) ?? '0'}`
}

/** Where process numbers mean the same: this machine, this namespace. */
function hostName(): string {
  const read = (what: () => string) => {
    try {
      return what()
    } catch {
      return '' // ENOENT: no such file on this system
    }
  }
  const machine = read(() => readFileSync('/etc/machine-id', 'utf8'))
  const space = read(() => readlinkSync('/proc/self/ns/pid'))
  return `${machine.slice(0, 12)}-${space.replaceAll(/\D/g, '')}`
}

function isOver(holder: string): boolean {
  const [host, pid, start] = holder.split('.')
  if (host !== hostName()) return false
  return startOf(Number(pid)) !== start
}

/** In clock ticks since the boot (proc(5), "starttime"); undefined when there is no such process. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined // ENOENT, ESRCH: it has ended
  }
}
