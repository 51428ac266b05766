/** What /proc/PID/mountinfo says of lxcfs: read from the kernel, so a dead FUSE server can't hold the reader up. */
import { readFile } from 'node:fs/promises'
import { systemCode } from '../../src/core/errors.ts'
import { LXCFS_FILES } from './files.ts'

export interface MountRow {
  /** `major:minor`; a new FUSE mount has another. */
  readonly device: string
  readonly target: string
  readonly type: string
}

/** Rows in order: of several at one target the last is on top (proc_pid_mountinfo(5)). */
export function parseMountInfo(text: string): MountRow[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ')
    const [, , device, , target] = left.split(' ')
    const [type] = right.split(' ')
    if (device === undefined || target === undefined || type === undefined) return []
    const path = target.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
    return [{ device, target: path, type }]
  })
}

/** The device of the FUSE file system on top at `folder`, or undefined. */
export async function lxcfsDevice(folder: string): Promise<string | undefined> {
  const rows = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'))
  const top = rows.findLast(({ target }) => target === folder)
  return top?.type.startsWith('fuse') === true ? top.device : undefined
}

/**
 * The lxcfs files that a process's mount namespace has from another device than `device`: they answer nothing any more.
 * Undefined when the process, whose folder in /proc is `folder`, is gone.
 */
export async function staleFiles(folder: string, device: string): Promise<string[] | undefined> {
  try {
    const rows = parseMountInfo(await readFile(`${folder}/mountinfo`, 'utf8'))
    return LXCFS_FILES.filter((name) => {
      const top = rows.findLast(({ target }) => target === `/${name}`)
      return top?.type !== 'fuse.lxcfs' || top.device !== device
    })
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EINVAL') return undefined
    throw error
  }
}
