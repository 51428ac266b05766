/** The command line as a function: arguments and streams in, exit code out. `main.ts` gives it the process. */
import { COMMANDS, loadAction } from './commands.ts'
import { type ProgramIo, perform, report } from './perform.ts'
import { type Call, quickParse } from './quick-parse.ts'

/** Runs one command line (without node and script). Never rejects: what fails is one line on stderr and an exit code. */
export async function runProgram(argv: readonly string[], io: ProgramIo): Promise<number> {
  if (argv[0] === '__complete') return await (await import('./completion/complete.ts')).complete(argv.slice(1), io)
  let call: Call | number
  try {
    call = quickly(argv) ?? (await (await import('./full-parse.ts')).fullParse(argv, io))
  } catch (error) {
    return report(error, 'reading the arguments', io, false)
  }
  if (typeof call === 'number') return call
  const { row } = call
  return await perform(call, io, () => loadAction(row))
}

function quickly(argv: readonly string[]): Call | undefined {
  const row = COMMANDS.find(({ name }) => name === argv[0])
  return row && quickParse(argv, row, COMMANDS)
}
