/** Runs a helper program of the host to its end and judges how it ended. */
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { runProgram as runToEnd } from '../shim/program.ts'

/** Its stdout. Throws HOST_UNABLE when it isn't installed, DISK_FULL, COMMAND_FAILED with its last words, or the signal's reason. */
export async function runProgram(
  program: string,
  args: readonly string[],
  { signal = new AbortController().signal }: { signal?: AbortSignal | undefined } = {},
): Promise<string> {
  try {
    const { code, stdout, stderr } = await runToEnd(program, args, { signal })
    if (code === 0) return stdout
    const words = stderr.trim().slice(-500)
    throw new DarnerError(
      /no space left|ENOSPC|quota exceeded/i.test(words) ? 'DISK_FULL' : 'COMMAND_FAILED',
      `${program} ${args.at(-1) ?? ''}: ended with ${code}: ${words}`,
    )
  } catch (error) {
    if (!isDarnerError(error) || error.code !== 'RUNTIME_MISSING') throw error
    throw new DarnerError('HOST_UNABLE', `${program} is not installed on this host`, { cause: error })
  }
}
