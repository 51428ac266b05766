/**
 * The proof that a limit bites: writing beyond it, in a folder that has been given {@link PROBE_QUOTA}. The writers have no
 * CAP_SYS_RESOURCE, as containers have none: with it ext4 lets a process pass every quota.
 */
import { join } from 'node:path'
import type { DiskQuota } from '../../src/api/rich-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { runProgram } from '../shim/program.ts'

export const PROBE_QUOTA: DiskQuota = { bytes: 1 << 20, inodes: 32 }
/** Far beyond the limits. */
const MOST_MIB = 64
const MOST_FILES = 4096

/** Why a limit of the folder did not bite, or undefined when both did. What it writes stays for the caller to remove. */
export async function whyNoLimit(folder: string, { signal }: { signal: AbortSignal }): Promise<string | undefined> {
  const filler = join(folder, 'filler')
  const write = ['dd', 'if=/dev/zero', `of=${filler}`, 'bs=64k', `count=${MOST_MIB * 16}`, 'conv=fsync']
  if (!(await isStopped(write, signal))) return 'more bytes than the limit could be written'
  await isStopped(['rm', filler], signal)
  const files = Array.from({ length: MOST_FILES }, (_, at) => join(folder, `inode-${at}`))
  return (await isStopped(['touch', ...files], signal)) ? undefined : 'more files than the limit could be made'
}

/** True when the program failed for want of room; throws COMMAND_FAILED when it failed for anything else. */
async function isStopped(argv: readonly string[], signal: AbortSignal): Promise<boolean> {
  const { code, stderr } = await runProgram('setpriv', ['--bounding-set', '-sys_resource', ...argv], { signal })
  if (code === 0) return false
  if (/No space left on device|[Qq]uota exceeded/.test(stderr)) return true
  throw new DarnerError('COMMAND_FAILED', `${argv[0]}: ${stderr.trim().slice(-500) || `exit code ${code}`}`)
}
