/** Commands that take several containers: each is done, whatever became of the others. */
import { EXIT, errorLine, isDarnerError } from '../core/errors.ts'
import type { CommandContext } from './context.ts'

/** Does `work` for every argument at once; prints the names that went well and a line per failure. The first failure's exit code. */
export async function forEach(
  args: readonly string[],
  context: Pick<CommandContext, 'stdout' | 'stderr' | 'signal'>,
  work: (name: string) => Promise<void>,
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
    failed ||= result.status === 'rejected'
  }
  return failed ? EXIT.failed : EXIT.done
}
