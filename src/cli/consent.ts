/** Asking a person before something is deleted. */
import { createInterface } from 'node:readline/promises'
import { DarnerError } from '../core/errors.ts'
import type { CommandContext } from './context.ts'

/** Whether the person at the terminal says yes; `what` is shown first. Throws BAD_ARGUMENT when there is nobody to ask. */
export async function agreed(
  what: string,
  { stdin, stderr, signal }: Pick<CommandContext, 'stdin' | 'stderr' | 'signal'>,
): Promise<boolean> {
  if ((stdin as { isTTY?: boolean }).isTTY !== true)
    throw new DarnerError('BAD_ARGUMENT', 'standard input is not a terminal, so nobody can be asked', {
      way: 'use --force to delete without asking',
    })
  stderr.write(what)
  const terminal = createInterface({ input: stdin, output: stderr })
  try {
    return /^y(es)?$/i.test((await terminal.question('Go on? [y/N] ', { signal })).trim())
  } finally {
    terminal.close()
  }
}
