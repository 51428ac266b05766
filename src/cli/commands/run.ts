/** `darner run`: a command in a new container; the image is pulled first when it isn't here. Exit code: the command's. */
import { asDarnerError, EXIT, errorChain, errorLine, isDarnerError } from '../../base/errors.ts'
import type { Action, CommandContext } from '../context.ts'
import { createOrPull } from '../create-container.ts'
import { detachKeysOf } from '../detach-keys.ts'
import { EngineClient } from '../engine-client.ts'
import { mustBeTerminal, runSession, startFailureCode, windowSize } from '../session-io.ts'

/** Exit code when nothing ran, as docker has it: the command's own may be 1 as well. */
const NOT_RUN = 125

export const action: Action = async (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const io = { tty: options.tty === true, stdin: options.interactive === true, ...detachKeysOf(options) }
  const detach = options.detach === true
  if (!detach) mustBeTerminal(context.stdin, io)
  try {
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

async function runDetached(client: EngineClient, id: string, context: CommandContext): Promise<number> {
  await client.start(id, { signal: context.signal })
  context.stdout.write(`${id}\n`)
  return 0
}

/** Joined to a container from the first byte of its next run, or, without `start`, of the run that is. Exit code: the process's. */
export async function runAttached(
  client: EngineClient,
  id: string,
  io: { tty: boolean; stdin: boolean },
  context: CommandContext,
  { start = true }: { start?: boolean } = {},
): Promise<number> {
  const size = io.tty ? windowSize(context.stdout) : undefined
  if (size) await client.resize(id, size, { signal: context.signal })
  // not the command's own signal: an interrupt goes to the process, whose end then ends the session
  const { signal } = new AbortController()
  await using session = await client.attach(id, { start, signal })
  const running = runSession(session, io, context)
  // one that comes while it starts isn't lost: the agent sends it as soon as the process is there
  const interrupt = () => {
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
    if (isDarnerError(context.signal.reason, 'CLOSED')) throw context.signal.reason
    return end === undefined ? 0 : end.exitCode
  } finally {
    context.signal.removeEventListener('abort', interrupt)
  }
}
