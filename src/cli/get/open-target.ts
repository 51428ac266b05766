/** From a name on the command line to where the bytes go. */
import { stat } from 'node:fs/promises'
import { DarnerError } from '../../base/errors.ts'
import type { CommandContext } from '../context.ts'
import { FileTarget } from './file-target.ts'
import { StreamTarget } from './stream-target.ts'
import type { Target } from './target.ts'

/** `-` is stdout; a device, pipe or socket is written to, never replaced. Throws BAD_ARGUMENT. */
export async function openTarget(
  name: string,
  { stdout, signal }: Pick<CommandContext, 'stdout' | 'signal'>,
): Promise<Target> {
  if (name === '-') return new StreamTarget('standard output', stdout, { own: false, signal })
  const seen = await stat(name).catch(() => undefined)
  if (seen?.isDirectory())
    throw new DarnerError('BAD_ARGUMENT', `cannot write ${name}: it is a directory`, { way: 'name a file in it' })
  return seen === undefined || seen.isFile() ? await FileTarget.open(name) : StreamTarget.open(name, { signal })
}
