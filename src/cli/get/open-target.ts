/** From a name on the command line to where the bytes go. */
import { lstatSync, type Stats, statSync } from 'node:fs'
import { DarnerError } from '../../core/errors.ts'
import type { CommandContext } from '../context.ts'
import { FileTarget } from './file-target.ts'
import type { Target } from './target.ts'

/** `-` is stdout; a device, pipe or socket is written to, never replaced. Throws BAD_ARGUMENT. */
export async function openTarget(
  name: string,
  { stdout, signal }: Pick<CommandContext, 'stdout' | 'signal'>,
  { throughLinks }: { throughLinks: boolean } = { throughLinks: true },
): Promise<Target> {
  if (name === '-') {
    const { StreamTarget } = await import('./stream-target.ts')
    return new StreamTarget('standard output', stdout, { own: false, signal })
  }
  if (!throughLinks && isLink(name)) return await FileTarget.open(name, { throughLinks })
  const seen = seenAt(name)
  if (seen?.isDirectory())
    throw new DarnerError('BAD_ARGUMENT', `cannot write ${name}: it is a directory`, { way: 'name a file in it' })
  if (seen === undefined || seen.isFile()) return await FileTarget.open(name)
  const { StreamTarget } = await import('./stream-target.ts')
  return StreamTarget.open(name, { signal })
}

function isLink(name: string): boolean {
  try {
    return lstatSync(name).isSymbolicLink()
  } catch {
    return false // ENOENT: it is made; EACCES: making it says so
  }
}

/** What is under the name; undefined where nothing is, or nothing that may be looked at. */
export function seenAt(name: string): Stats | undefined {
  try {
    return statSync(name)
  } catch {
    return undefined // ENOENT: it is made; EACCES: making it says so
  }
}
