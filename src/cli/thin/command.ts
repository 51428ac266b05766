/** What the build puts around one command's action to make a file of its own. */
import type { Action } from '../context.ts'
import { perform } from '../perform.ts'
import { lendProcess } from '../process.ts'
import { quickParse } from '../quick-parse.ts'
import type { CommandRow } from '../rows/shape.ts'

/** What the build knows of the command. */
export interface Thin {
  readonly row: CommandRow
  /** Rows below it in the table. */
  readonly below: readonly Pick<CommandRow, 'name'>[]
  readonly action: Action
  /** Starts the program as a whole, which reads every command line. */
  whole(): Promise<unknown>
}

/** Runs the process's command line. */
export async function runThin({ row, below, action, whole }: Thin): Promise<void> {
  const call = quickParse(process.argv.slice(2), row, below)
  if (call === undefined) await whole()
  else await lendProcess((io) => perform(call, io, async () => action))
}
