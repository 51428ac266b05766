/** `darner run`: a command in a new container; the image is pulled first when it isn't here. Exit code: the command's. */
import { asDarnerError, EXIT, errorChain, errorLine, isDarnerError } from '../../core/errors.ts'
import { attachOf } from '../attach-options.ts'
import type { Action, CommandContext } from '../context.ts'
import { createOrPull, orPull, warn } from '../create-container.ts'
import { detachKeysOf } from '../detach-keys.ts'
import { EngineClient, type StreamSession } from '../engine-client.ts'
import { mustBeTerminal, runSession, type SessionIoOptions, startFailureCode, windowSize } from '../session-io.ts'

/** So long an agent has to tell of a container that is being made when the command is to end. */
const ANSWER_MS = 2000

/** Exit code when nothing ran, as docker has it: the command's own may be 1 as well. */
const NOT_RUN = 125

export const action: Action = async (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const choice = attachOf(options)
  const stdin = options.interactive === true && choice.only?.has('stdin') !== false
  const io = { tty: options.tty === true, stdin, ...choice, ...detachKeysOf(options) }
  const detach = options.detach === true
  if (!detach) mustBeTerminal(context, io)
  // a terminal has its size, and a file the id, before it starts
  const atOnce = !detach && !io.tty && options.cidfile === undefined
  try {
    if (atOnce) return await runAtOnce(args, options, client, io, context)
    const id = await createOrPull(args, options, context)
    return detach ? await runDetached(client, id, context) : await runAttached(client, id, io, context)
  } catch (error) {
    if (context.signal.aborted) throw error
    const code =
      startFailureCode(error) ?? (asDarnerError(error, 'run').facts.exit === EXIT.failed ? NOT_RUN : undefined)
    if (code === undefined) throw error
    context.stderr.write(`darner: ${errorLine(error)}\n`)
    if (context.debug) for (const line of errorChain(error)) context.stderr.write(`  ${line}\n`)
    return code
  }
}

/** One question for all of it. */
async function runAtOnce(
  args: readonly string[],
  options: Readonly<Record<string, unknown>>,
  client: EngineClient,
  io: SessionIoOptions,
  context: CommandContext,
): Promise<number> {
  const { signal } = context
  const run = await orPull(args, options, context, async ({ body, ...asked }) => {
    signal.throwIfAborted()
    const late = new AbortController()
    let waits: NodeJS.Timeout | undefined
    // the id of what is being made is known first, so that an interrupt ends it too
    const onAbort = () => {
      waits = setTimeout(() => late.abort(signal.reason), ANSWER_MS)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await client.run(body, { ...asked, signal: late.signal })
    } finally {
      signal.removeEventListener('abort', onAbort)
      clearTimeout(waits)
    }
  })
  warn(run.warnings, context)
  return await follow(client, run.id, run.session, io, context)
}

async function runDetached(client: EngineClient, id: string, context: CommandContext): Promise<number> {
  await client.start(id, { signal: context.signal })
  context.stdout.write(`${id}\n`)
  return 0
}

/** Joined to a container from the first byte of its next run, or, without `start`, of the run that is. Exit code: the process's. */
export async function runAttached(
  client: EngineClient,
  id: string,
  io: SessionIoOptions,
  context: CommandContext,
  { start = true }: { start?: boolean } = {},
): Promise<number> {
  const size = io.tty ? windowSize(context.stdout) : undefined
  if (size) await client.resize(id, size, { signal: context.signal })
  // not the command's own signal: an interrupt goes to the process, whose end then ends the session
  const { signal } = new AbortController()
  return await follow(client, id, await client.attach(id, { start, signal }), io, context)
}

async function follow(
  client: EngineClient,
  id: string,
  joined: StreamSession,
  io: SessionIoOptions,
  context: CommandContext,
): Promise<number> {
  const { signal } = new AbortController()
  await using session = joined
  // as docker: a user that sees no output sees the container's id
  if (io.only?.has('stdout') === false && !io.only.has('stderr')) context.stdout.write(`${id}\n`)
  const running = runSession(session, io, context)
  // one that comes while it starts isn't lost: the agent sends it as soon as the process is there
  const interrupt = () => {
    if (io.sigProxy === false) {
      session.close()
      return
    }
    // nobody reads any more: there is nothing to wait for, also when the process takes no notice of the signal
    const gone = isDarnerError(context.signal.reason, 'CLOSED')
    void client
      .kill(id, 'INT', { signal })
      .then(
        () => gone,
        () => true, // it has ended: nothing more will come
      )
      .then((over) => {
        if (over) session.close()
      })
  }
  if (context.signal.aborted) interrupt()
  else context.signal.addEventListener('abort', interrupt, { once: true })
  try {
    const end = await running
    if (io.sigProxy === false) context.signal.throwIfAborted()
    if (isDarnerError(context.signal.reason, 'CLOSED')) throw context.signal.reason
    return end === undefined ? 0 : end.exitCode
  } finally {
    context.signal.removeEventListener('abort', interrupt)
  }
}
