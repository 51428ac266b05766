/** `darner run`: a command in a new container; the image is pulled first when it isn't here. Exit code: the command's. */
import { errorLine, isDarnerError } from '../../base/errors.ts'
import type { CreateReply, CreateRequest } from '../../wire/local-api.ts'
import type { Action, CommandContext } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { networkOf } from '../network-options.ts'
import { resolveEnv, text, texts } from '../option-values.ts'
import { richOf } from '../rich-options.ts'
import { mustBeTerminal, runSession, startFailureCode, windowSize } from '../session-io.ts'

export const action: Action = async (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const io = { tty: options.tty === true, stdin: options.interactive === true }
  const detach = options.detach === true
  if (!detach) mustBeTerminal(context.stdin, io)
  const { id, warnings } = await createOrPull(client, requestOf(args, options, context), options, context)
  for (const warning of warnings) context.stderr.write(`darner: warning: ${warning}\n`)
  try {
    return detach ? await runDetached(client, id, context) : await runAttached(client, id, io, context)
  } catch (error) {
    const code = startFailureCode(error)
    if (code === undefined) throw error
    context.stderr.write(`darner: ${errorLine(error)}\n`)
    return code
  }
}

function requestOf(args: readonly string[], options: Record<string, unknown>, context: CommandContext): CreateRequest {
  const [image = '', ...command] = args
  const detach = options.detach === true
  const name = text(options, 'name')
  const runtime = text(options, 'runtime')
  return {
    image,
    ...(command.length > 0 ? { command } : {}),
    ...(name === undefined ? {} : { name }),
    ...(runtime === undefined ? {} : { runtime }),
    env: resolveEnv(texts(options, 'env'), context.env),
    tty: options.tty === true,
    openStdin: options.interactive === true,
    stdinOnce: options.interactive === true && !detach,
    autoRemove: options.rm === true,
    ...networkOf(options),
    ...richOf(options),
  }
}

async function createOrPull(
  client: EngineClient,
  request: CreateRequest,
  options: Record<string, unknown>,
  context: CommandContext,
): Promise<CreateReply> {
  const { signal } = context
  try {
    return await client.create(request, { signal })
  } catch (error) {
    if (!isDarnerError(error, 'NOT_FOUND') || error.details.network !== undefined) throw error
  }
  const quiet = options.quiet === true
  const platform = text(options, 'platform')
  if (!quiet) context.stderr.write(`darner: ${request.image} is not here: pulling it\n`)
  const { credentialOf, followPull } = await import('../pull-progress.ts')
  const pull = {
    reference: request.image,
    ...(options.plainHttp === true ? { plainHttp: true } : {}),
    ...(platform === undefined ? {} : { platform }),
    ...(await credentialOf(request.image, context)),
  }
  await followPull(pull, context, { quiet })
  return client.create(request, { signal })
}

async function runDetached(client: EngineClient, id: string, context: CommandContext): Promise<number> {
  await client.start(id, { signal: context.signal })
  context.stdout.write(`${id}\n`)
  return 0
}

async function runAttached(
  client: EngineClient,
  id: string,
  io: { tty: boolean; stdin: boolean },
  context: CommandContext,
): Promise<number> {
  const size = io.tty ? windowSize(context.stdout) : undefined
  if (size) await client.resize(id, size, { signal: context.signal })
  // not the command's own signal: an interrupt goes to the process, whose end then ends the session
  const { signal } = new AbortController()
  await using session = await client.attach(id, { signal })
  const running = runSession(session, io, context)
  running.catch(() => {}) // awaited below, after the start, which tells the same failure better
  // an interrupt while it starts isn't lost: the process gets it as soon as it is there
  await client.start(id, { signal })
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
