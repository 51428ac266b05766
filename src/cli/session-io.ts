/** Joins a session at the agent to this terminal or pipe: output, input, window size, detach keys, the end. */
import type { Readable, Writable } from 'node:stream'
import type { ExecRequest, ExitReply, TerminalSize } from '../api/containers-api.ts'
import { CHANNEL } from '../api/stream-frame.ts'
import { DarnerError, errorLine } from '../core/errors.ts'
import { put } from '../core/outflow.ts'
import type { AttachChoice } from './attach-options.ts'
import type { CommandContext } from './context.ts'
import { DetachKeys } from './detach-keys.ts'
import { EngineClient, type StreamSession } from './engine-client.ts'

export interface SessionIoOptions extends AttachChoice {
  /** The process has a terminal: keys go as they are typed and this window's size is its own. */
  readonly tty: boolean
  /** Connect stdin. */
  readonly stdin: boolean
  /** Typed one after the other they leave it without ending it; default ctrl-p ctrl-q. */
  readonly detachKeys?: readonly number[]
}

type Terminal = { isTTY?: boolean; columns?: number; rows?: number; setRawMode?(on: boolean): void }

/** This window's size; undefined when stdout is no terminal. */
export function windowSize(stdout: Writable): TerminalSize | undefined {
  const { isTTY, columns, rows } = stdout as Writable & Terminal
  return isTTY === true && columns && rows ? { columns, rows } : undefined
}

/** Throws BAD_ARGUMENT when a terminal with input is asked for and stdin is none. */
export function mustBeTerminal(context: Pick<CommandContext, 'stdin'>, options: SessionIoOptions): void {
  if (!options.tty || !options.stdin || (context.stdin as Readable & Terminal).isTTY === true) return
  throw new DarnerError('BAD_ARGUMENT', '-t asks for a terminal, and standard input is not one', {
    way: 'leave out -t, or -i',
  })
}

/** Runs until the process ended (its exit code), or the detach keys were typed (undefined). Puts the terminal back as it was. */
export async function runSession(
  session: StreamSession,
  options: SessionIoOptions,
  context: Pick<CommandContext, 'stdin' | 'stdout' | 'stderr'>,
): Promise<ExitReply | undefined> {
  // a stream is made when it is first asked for, and costs the start of a command
  const stdin = options.stdin ? (context.stdin as Readable & Terminal) : undefined
  const raw = options.tty && stdin?.isTTY === true
  const onResize = () => {
    const size = windowSize(context.stdout)
    if (size) void session.resize(size)
  }
  const stopInput = stdin ? pumpInput(stdin, session, raw, options.detachKeys) : () => {}
  if (raw) stdin?.setRawMode?.(true)
  if (options.tty) context.stdout.on('resize', onResize)
  try {
    const frames = session.frames()
    for (;;) {
      const next = await frames.next()
      if (next.done) return next.value
      const error = next.value.channel === CHANNEL.stderr
      if (options.only?.has(error ? 'stderr' : 'stdout') === false) continue
      await put(error ? context.stderr : context.stdout, next.value.bytes)
    }
  } finally {
    stopInput()
    if (raw) stdin?.setRawMode?.(false)
    if (options.tty) context.stdout.off('resize', onResize)
  }
}

/** An error that carries the exit code of a process which couldn't be started, as shells number them. */
export function startFailureCode(error: unknown): number | undefined {
  const code = error instanceof DarnerError ? error.details.exitCode : undefined
  return typeof code === 'number' ? code : undefined
}

function pumpInput(
  stdin: Readable,
  session: StreamSession,
  raw: boolean,
  detachKeys: readonly number[] | undefined,
): () => void {
  const keys = new DetachKeys(detachKeys)
  let last: Promise<void> = Promise.resolve()
  const onData = (chunk: Uint8Array) => {
    const { pass, detached } = raw ? keys.push(chunk) : { pass: chunk, detached: false }
    stdin.pause()
    last = last.then(() => session.sendInput(pass))
    void last.then(() => {
      if (detached) session.close()
      else stdin.resume()
    })
  }
  const onEnd = () => {
    void last.then(() => session.endInput())
  }
  stdin.on('data', onData)
  stdin.once('end', onEnd)
  return () => {
    stdin.off('data', onData)
    stdin.off('end', onEnd)
    stdin.pause()
  }
}

/** Runs one more process in a container, joined to this terminal or pipe. Resolves with its exit code, or 126 or 127 as a shell would. */
export async function runExec(
  container: string,
  request: ExecRequest,
  io: SessionIoOptions,
  context: CommandContext,
): Promise<number> {
  const { signal } = context
  try {
    await using session = await new EngineClient({ socket: context.socket }).exec(container, request, { signal })
    const leave = () => session.close()
    signal.addEventListener('abort', leave, { once: true })
    const end = await runSession(session, io, context)
    signal.removeEventListener('abort', leave)
    signal.throwIfAborted()
    return end?.exitCode ?? 0
  } catch (error) {
    const code = startFailureCode(error)
    if (code === undefined) throw error
    context.stderr.write(`darner: ${errorLine(error)}\n`)
    return code
  }
}
