/** A command that was read from its arguments is run here: its context, its deadline, and its one line when it fails. */
import type { Readable, Writable } from 'node:stream'
import { formatDuration } from '../core/config/units.ts'
import { asDarnerError, DarnerError, EXIT, errorChain, errorLine } from '../core/errors.ts'
import { withDeadline } from '../core/signals.ts'
import { type Action, type CommandContext, DEFAULT_SOCKET } from './context.ts'
import type { Call } from './quick-parse.ts'

export interface ProgramIo {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  /** Ends the command: its reason says how. */
  readonly signal: AbortSignal
}

/** The reason of a signal that ends a command because nobody reads its output any more: no line, no noise. */
export const OUTPUT_GONE = new DarnerError('CLOSED', 'standard output was closed')

/** Runs what `load` brings. Never rejects: what fails is one line on stderr and an exit code. */
export async function perform(call: Call, io: ProgramIo, load: () => Promise<Action>): Promise<number> {
  const { row, args, options } = call
  const debug = options.debug === true || io.env.DARNER_DEBUG === '1'
  // 0 is no deadline, as with curl and wget
  const deadlineMs = typeof options.timeout === 'number' && options.timeout > 0 ? options.timeout : undefined
  const signal = deadlineMs === undefined ? io.signal : withDeadline(io.signal, deadlineMs)
  const socket = typeof options.socket === 'string' ? options.socket : io.env.DARNER_SOCKET || DEFAULT_SOCKET
  const context: CommandContext = {
    env: io.env,
    // a stream of the process is made when it is first asked for, and each costs a command's start a millisecond
    get stdin() {
      return io.stdin
    },
    get stdout() {
      return io.stdout
    },
    get stderr() {
      return io.stderr
    },
    socket,
    signal,
    debug,
    json: options.json === true,
    get interactive() {
      return (io.stderr as { isTTY?: boolean }).isTTY === true
    },
    log: {
      debug: (fields, message) => {
        if (debug) io.stderr.write(`debug: ${message} ${JSON.stringify(fields)}\n`)
      },
    },
  }
  try {
    signal.throwIfAborted()
    const action = await load()
    return await action(args, options, context)
  } catch (error) {
    if (io.signal.aborted && io.signal.reason === OUTPUT_GONE) return EXIT.failed
    if (!signal.aborted) return report(error, row.name, io, debug)
    const what = [row.name, ...args.slice(0, 1).map(withoutSecrets)].join(' ')
    const ended = io.signal.aborted
      ? new DarnerError('INTERRUPTED', `${what}: interrupted`, { cause: error })
      : new DarnerError('TIMED_OUT', `${what}: not done within ${formatDuration(deadlineMs ?? 0)}`, { cause: error })
    return report(ended, row.name, io, debug)
  }
}

/** A URL without its name and password, and without its query, which may be a signature; any other word as it is. */
function withoutSecrets(word: string): string {
  const [scheme = '', rest] = word.split('://', 2)
  if (rest === undefined || scheme.includes('/')) return word
  const [path = ''] = rest.split('?', 1)
  const slash = path.indexOf('/')
  const host = slash < 0 ? path : path.slice(0, slash)
  return `${scheme}://${host.slice(host.lastIndexOf('@') + 1)}${slash < 0 ? '' : path.slice(slash)}`
}

/** Prints what failed; the exit code of it. */
export function report(error: unknown, what: string, io: ProgramIo, debug: boolean): number {
  const known = asDarnerError(error, what)
  io.stderr.write(`darner: ${errorLine(known)}\n`)
  if (debug) for (const line of errorChain(known)) io.stderr.write(`  ${line.replaceAll('\n', '\n  ')}\n`)
  return known.facts.exit
}
