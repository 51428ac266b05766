/** `darner exec`: one more process in a running container. Exit code: the process's. */
import type { ExecRequest } from '../../api/containers-api.ts'
import type { Action, CommandContext } from '../context.ts'
import { detachKeysOf } from '../detach-keys.ts'
import { resolveEnv, text, texts } from '../option-values.ts'
import { mustBeTerminal, runExec, windowSize } from '../session-io.ts'

export const action: Action = async (args, options, context) => {
  const [container = '', ...command] = args
  const detach = options.detach === true
  const io = { tty: options.tty === true, stdin: options.interactive === true && !detach, ...detachKeysOf(options) }
  mustBeTerminal(context, io)
  const files = texts(options, 'envFile')
  const listed = files.length === 0 ? [] : await (await import('../run-options.ts')).envOfFiles(files)
  const size = io.tty ? windowSize(context.stdout) : undefined
  const user = text(options, 'user')
  const workdir = text(options, 'workdir')
  const request = {
    command,
    env: resolveEnv([...listed, ...texts(options, 'env')], context.env),
    tty: io.tty,
    stdin: io.stdin,
    ...(size ? { size } : {}),
    ...(options.privileged === true ? { privileged: true } : {}),
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir }),
  }
  if (detach) return await startDetached(container, request, context)
  return await runExec(container, request, io, context)
}

/** Docker's API starts a process without taking its connection over. */
async function startDetached(container: string, asked: ExecRequest, context: CommandContext): Promise<number> {
  const { DockerClient, pathPart } = await import('../docker-client.ts')
  const client = new DockerClient({ socket: context.socket })
  const body = {
    Cmd: asked.command,
    Env: asked.env,
    Tty: asked.tty,
    Privileged: asked.privileged,
    User: asked.user,
    WorkingDir: asked.workdir,
  }
  const { signal } = context
  const { Id } = await client.json<{ Id: string }>('POST', `/containers/${pathPart(container)}/exec`, { body, signal })
  await client.json('POST', `/exec/${Id}/start`, { body: { Detach: true, Tty: asked.tty }, signal })
  return 0
}
