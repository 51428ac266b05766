/**
 * A program as the kernel shows it where nothing can be written. crun protects the host's file from writes through /proc/self/exe. At each
 * call it puts itself into a read-only mount and starts again from there. That costs a second start of a program, and a wait for all
 * processors when that mount goes. Started from a read-only mount it leaves that out.
 */
import { closeSync, lstatSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { openReadOnly } from '../linux/syscalls.ts'

export interface ReadOnlyProgram extends Disposable {
  /** Good for every process of this host while this one lives and hasn't disposed it. */
  readonly path: string
}

/**
 * The folder of `path` in a read-only mount that only a descriptor of this process holds, so that nothing is left of it. `path` itself
 * where that can't be had: without the right to mount, before Linux 5.12, and for a link, whose end may become another program.
 */
export function readOnlyProgram(path: string): ReadOnlyProgram {
  let folder: number | undefined
  try {
    if (lstatSync(path).isFile()) folder = openReadOnly(dirname(path), closeSync)
  } catch {
    // the starter reports what is wrong with it
  }
  if (folder === undefined) return { path, [Symbol.dispose]: () => {} }
  const shown = `/proc/${process.pid}/fd/${folder}/${basename(path)}`
  const close = () => closeSync(folder)
  if (isSame(shown, path)) return { path: shown, [Symbol.dispose]: close }
  close() // this process has another number in the /proc that is mounted here
  return { path, [Symbol.dispose]: () => {} }
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }))
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino
}
