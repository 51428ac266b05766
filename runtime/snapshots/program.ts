/** Runs a helper program of the host to its end: argument array, small environment, bounded output. */
import { execFile } from 'node:child_process'
import { DarnerError } from '../../src/base/errors.ts'

const MAX_OUTPUT_BYTES = 1024 * 1024
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Its stdout. Throws HOST_UNABLE when it isn't installed, DISK_FULL, COMMAND_FAILED with its last words, or the signal's reason. */
export function runProgram(
  program: string,
  args: readonly string[],
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      env: { PATH, LC_ALL: 'C' },
      maxBuffer: MAX_OUTPUT_BYTES,
      encoding: 'utf8' as const,
      ...(signal ? { signal } : {}),
    }
    execFile(program, [...args], options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout)
      if (signal?.aborted) return reject(signal.reason)
      if (error.code === 'ENOENT')
        return reject(new DarnerError('HOST_UNABLE', `${program} is not installed on this host`, { cause: error }))
      const words = stderr.trim().slice(-500)
      const code = /no space left|ENOSPC|quota exceeded/i.test(words) ? 'DISK_FULL' : 'COMMAND_FAILED'
      reject(
        new DarnerError(code, `${program} ${args.at(-1) ?? ''}: ended with ${error.code ?? error.signal}: ${words}`, {
          cause: error,
        }),
      )
    })
  })
}
