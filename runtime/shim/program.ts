/** Runs a host program to its end: an argument array, a clean environment, bounded output, no shell. */
import { existsSync } from 'node:fs'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { outcome, type Spawned, spawnProgram } from './spawn.ts'

export interface ProgramResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  readonly signal: AbortSignal
  /** An open file, its descriptor 3: `/proc/self/fd/3` in its arguments names it, wherever it is moved. */
  readonly file?: number
  /** What it reads at descriptor 0; nothing by default. */
  readonly input?: string
  /** Default {@link PROGRAM_ENV}. */
  readonly env?: Readonly<Record<string, string>>
  /** Of each output about so much is kept. Default 4 MiB. */
  readonly mostOutputBytes?: number
}

const MOST_OUTPUT_BYTES = 4 << 20
const SIGKILL = 9

/** The environment of every program that the engine starts. */
export const PROGRAM_ENV: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
}

/** Resolves with any exit code. Throws RUNTIME_MISSING when there is no such program, and the signal's reason on abort (it is killed then). */
export async function runProgram(
  path: string,
  args: readonly string[],
  { signal, file, input, env = PROGRAM_ENV, mostOutputBytes = MOST_OUTPUT_BYTES }: ProgramOptions,
): Promise<ProgramResult> {
  signal.throwIfAborted()
  const stdin = input === undefined ? 'ignore' : 'reads'
  const further = file === undefined ? [] : [file]
  let child: Spawned
  try {
    child = await spawnProgram(onPath(path), args, { stdio: [stdin, 'writes', 'writes', ...further], env })
  } catch (error) {
    throw missing(path, error)
  }
  const onAbort = () => child.kill(SIGKILL)
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  const writer = child.writers.get(0)
  writer?.on('error', () => {}) // EPIPE: it ended without reading; its exit code tells
  writer?.end(input)
  const result = await outcome(child, mostOutputBytes)
  signal.removeEventListener('abort', onAbort)
  signal.throwIfAborted()
  return result
}

/** Where a program is that is named without its folder; the name itself when it is nowhere. */
function onPath(path: string): string {
  if (path.includes('/')) return path
  const folders = (PROGRAM_ENV.PATH ?? '').split(':')
  return folders.map((folder) => `${folder}/${path}`).find((one) => existsSync(one)) ?? `/usr/bin/${path}`
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
