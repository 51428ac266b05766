/** Lends a command line what belongs to the process: its streams, its signals, its exit code. */
import type { Writable } from 'node:stream'
import { endProcess } from '../core/end-process.ts'
import { DarnerError, EXIT, errorLine } from '../core/errors.ts'
import { endCause } from '../core/on-behalf.ts'
import { OUTPUT_GONE, type ProgramIo } from './perform.ts'

/** Runs it and ends the process with its exit code. */
export async function lendProcess(run: (io: ProgramIo) => Promise<number>): Promise<void> {
  const ending = new AbortController()
  const onSignal = (name: string) => {
    if (ending.signal.aborted) process.exit(EXIT.interrupted)
    ending.abort(new DarnerError('INTERRUPTED', `interrupted by ${name}`))
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  const onUncaught = (error: unknown) => {
    const ended = endCause(error)
    const stack = ended || process.argv.includes('--debug') ? `${(error as Error | undefined)?.stack}\n` : ''
    const what = ended ? 'a mistake of darner, for which the connection that led to it was ended: ' : ''
    process.stderr.write(`darner: ${what}${errorLine(error)}\n${stack}`)
    if (!ended) process.exit(EXIT.failed)
  }
  process.on('uncaughtException', onUncaught).on('unhandledRejection', onUncaught)
  const used = new Map<'stdout' | 'stderr', Writable>()
  const output = (name: 'stdout' | 'stderr'): Writable => {
    const known = used.get(name)
    if (known !== undefined) return known
    const stream = process[name]
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE')
        throw new DarnerError(
          'COMMAND_FAILED',
          `cannot write standard ${name === 'stdout' ? 'output' : 'error'}: ${error.code}`,
          {
            cause: error,
          },
        )
      ending.abort(OUTPUT_GONE)
    })
    used.set(name, stream)
    return stream
  }
  const code = await run({
    env: process.env,
    get stdin() {
      return process.stdin
    },
    get stdout() {
      return output('stdout')
    },
    get stderr() {
      return output('stderr')
    },
    signal: ending.signal,
  })
  for (const stream of used.values()) await new Promise<void>((resolve) => stream.write('', () => resolve()))
  endProcess(code)
}
