/** `darner exec`: one more process in a running container. Exit code: the process's. */
import { errorLine } from '../../base/errors.ts'
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { resolveEnv, text, texts } from '../option-values.ts'
import { mustBeTerminal, runSession, startFailureCode, windowSize } from '../session-io.ts'

export const action: Action = async (args, options, context) => {
  const [container = '', ...command] = args
  const io = { tty: options.tty === true, stdin: options.interactive === true }
  mustBeTerminal(context.stdin, io)
  const size = io.tty ? windowSize(context.stdout) : undefined
  const user = text(options, 'user')
  const workdir = text(options, 'workdir')
  const request = {
    command,
    env: resolveEnv(texts(options, 'env'), context.env),
    tty: io.tty,
    stdin: io.stdin,
    ...(size ? { size } : {}),
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir }),
  }
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
