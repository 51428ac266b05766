/** The one entry: lends the process to `program.ts`. Everything is imported after the compile cache is on. */
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Compiled code is kept where only its owner can write: a cache in a shared folder could be filled by somebody else.
 */
function cacheFolder(): string {
  if (process.env.NODE_COMPILE_CACHE) return process.env.NODE_COMPILE_CACHE
  if (process.geteuid?.() === 0) return '/var/cache/darner/code'
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'darner', 'code')
}

const daemon = ['agent', 'supernode'].includes(process.argv[2] ?? '') && process.argv[3] !== 'token'
if (daemon) (await import('./lean-process.ts')).becomeLean()
enableCompileCache(cacheFolder())
const { runProgram, OUTPUT_GONE } = await import('./program.ts')
const { DarnerError, EXIT, errorLine } = await import('../base/errors.ts')

const ending = new AbortController()
const onSignal = (name: string) => {
  if (ending.signal.aborted) process.exit(EXIT.interrupted)
  ending.abort(new DarnerError('INTERRUPTED', `interrupted by ${name}`))
}
process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
process.on('uncaughtException', (error) => {
  process.stderr.write(`darner: ${errorLine(error)}\n${process.argv.includes('--debug') ? `${error.stack}\n` : ''}`)
  process.exit(EXIT.failed)
})
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    ending.abort(OUTPUT_GONE)
  })
}

const { env, stdin, stdout, stderr } = process
const code = await runProgram(process.argv.slice(2), { env, stdin, stdout, stderr, signal: ending.signal })
for (const stream of [stdout, stderr]) await new Promise<void>((resolve) => stream.write('', () => resolve()))
process.exit(code)
