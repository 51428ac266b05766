/** Runs a host program to its end: an argument array, a clean environment, bounded output, no shell. */
import { spawn } from 'node:child_process'
import { DarnerError, systemCode } from '../../src/base/errors.ts'

export interface ProgramResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const MOST_OUTPUT_BYTES = 4 << 20

/** The environment of every program that the engine starts. */
export const PROGRAM_ENV: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
}

/** Resolves with any exit code. Throws RUNTIME_MISSING when there is no such program, and the signal's reason on abort (it is killed then). */
export function runProgram(
  path: string,
  args: readonly string[],
  { signal, folder }: { signal: AbortSignal; folder?: number },
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const further = folder === undefined ? [] : [folder]
    const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe', ...further], env: PROGRAM_ENV })
    const onAbort = () => child.kill('SIGKILL')
    signal.addEventListener('abort', onAbort, { once: true })
    const texts = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
        if (texts[name].length < MOST_OUTPUT_BYTES) texts[name] += chunk
      })
    }
    child.once('error', (error) => {
      signal.removeEventListener('abort', onAbort)
      reject(missing(path, error))
    })
    child.once('close', (code) => {
      signal.removeEventListener('abort', onAbort)
      if (signal.aborted) reject(signal.reason)
      else resolve({ code: code ?? 255, ...texts })
    })
  })
}

/** RUNTIME_MISSING for a program that isn't there, INTERNAL for any other reason that it can't be started. */
export function missing(path: string, error: unknown): DarnerError {
  const code = systemCode(error)
  if (code === 'ENOENT' || code === 'EACCES') {
    return new DarnerError('RUNTIME_MISSING', `starting ${path}: ${code}`, { cause: error, details: { path } })
  }
  return new DarnerError('INTERNAL', `starting ${path}: ${error instanceof Error ? error.message : error}`, {
    cause: error,
  })
}

/** Runs a host program whose descriptor 3 is an open folder: `/proc/self/fd/3` in its arguments names it, wherever it is moved. */
export function runWithFolder(
  path: string,
  args: readonly string[],
  folder: number,
  { signal }: { signal: AbortSignal },
): Promise<ProgramResult> {
  return runProgram(path, args, { signal, folder })
}
