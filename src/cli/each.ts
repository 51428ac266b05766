/** Commands that take several containers: each is done, whatever became of the others. */
import { EXIT, errorLine, isDarnerError } from '../core/errors.ts'
import type { CommandContext } from './context.ts'

/** Does `work` for every argument at once; prints the names that went well and a line per failure. With `force` a name that is not there is no failure, as docker's rm -f has it. */
export async function forEach(
  args: readonly string[],
  context: Pick<CommandContext, 'stdout' | 'stderr' | 'signal'>,
  work: (name: string) => Promise<void>,
  { force = false }: { force?: boolean } = {},
): Promise<number> {
  const results = await Promise.allSettled(args.map(work))
  context.signal.throwIfAborted()
  const [first] = results
  // without an agent it is the same line for each
  if (first?.status === 'rejected' && isDarnerError(first.reason, 'AGENT_UNREACHABLE')) throw first.reason
  let failed = false
  for (const [at, result] of results.entries()) {
    if (result.status === 'fulfilled') context.stdout.write(`${args[at]}\n`)
    else context.stderr.write(`darner: ${errorLine(result.reason)}\n`)
    failed ||= result.status === 'rejected' && !(force && isDarnerError(result.reason, 'NOT_FOUND'))
  }
  return failed ? EXIT.failed : EXIT.done
}
