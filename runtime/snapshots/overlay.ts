/** Stacks directories with overlayfs (kernel docs, filesystems/overlayfs). */
import { closeSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { AT_FDCWD, type MountOption, MS, mount, mountNew, O, openAt } from '../linux/syscalls.ts'

/** With the value `y`: nothing of lower layers shows in a directory. */
export const OPAQUE_XATTR = 'trusted.overlay.opaque'
/** Most lower directories that overlayfs takes. */
export const MAX_LOWERS = 500
const PAGE_BYTES = 4096
const ATTR_RDONLY = 1

export interface Stack {
  /** Highest first; overlayfs needs two when nothing is writable. */
  readonly lowers: readonly string[]
  readonly upper?: {
    readonly upper: string
    readonly work: string
    /**
     * Nothing of it is synced, if the kernel can do that. Otherwise unmounting waits until the disk below has written everything. The
     * kernel refuses to mount it again until {@link forgiveVolatile}.
     */
    readonly volatile?: boolean
  }
  readonly target: string
}

/** Mounts a stack. Throws MOUNT_FAILED. */
export function mountOverlay(stack: Stack): void {
  if (stack.lowers.length > MAX_LOWERS) {
    throw new DarnerError(
      'MOUNT_FAILED',
      `overlay ${stack.target}: ${stack.lowers.length} layers, more than ${MAX_LOWERS}`,
    )
  }
  const options: MountOption[] = [['source', 'overlay']]
  for (const lower of stack.lowers) options.push(['lowerdir+', lower])
  if (stack.upper !== undefined) options.push(['upperdir', stack.upper.upper], ['workdir', stack.upper.work])
  if (stack.upper?.volatile === true) options.push(['volatile'])
  try {
    mountNew('overlay', options, stack.target, stack.upper === undefined ? ATTR_RDONLY : 0, closeSync)
  } catch (error) {
    // `lowerdir+` came with Linux 6.5, the calls themselves with 5.2
    if (!['EINVAL', 'ENOSYS', 'EPERM'].includes(systemCode(error) ?? '')) throw failed(stack, error)
    mountByText(stack)
  }
}

/** Takes away the mark in a work directory that a volatile mount was there, which may have lost what was written. */
export async function forgiveVolatile(work: string): Promise<void> {
  await rm(join(work, 'work', 'incompat'), { recursive: true, force: true })
}

/** The old way: all options in one page of text, kept short by naming each directory by a descriptor. */
export function mountByText(stack: Stack): void {
  const opened: number[] = []
  const short = (path: string): string => {
    const fd = openAt(AT_FDCWD, path, O.PATH | O.DIRECTORY)
    opened.push(fd)
    return `/proc/self/fd/${fd}`
  }
  try {
    const parts = [`lowerdir=${stack.lowers.map(short).join(':')}`]
    if (stack.upper !== undefined)
      parts.push(`upperdir=${short(stack.upper.upper)}`, `workdir=${short(stack.upper.work)}`)
    const text = parts.join(',')
    if (text.length >= PAGE_BYTES)
      throw new DarnerError(
        'MOUNT_FAILED',
        `overlay ${stack.target}: its options need ${text.length} bytes, this kernel takes ${PAGE_BYTES}`,
      )
    mount('overlay', stack.target, 'overlay', stack.upper === undefined ? MS.RDONLY : 0, text)
  } catch (error) {
    throw failed(stack, error)
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}

function failed(stack: Stack, error: unknown): DarnerError {
  if (error instanceof DarnerError) return error
  return new DarnerError(
    'MOUNT_FAILED',
    `overlay ${stack.target}: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  )
}
