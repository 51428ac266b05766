/** `darner exec`: one more process in a running container. Exit code: the process's. */
import type { Action } from '../context.ts'
import { resolveEnv, text, texts } from '../option-values.ts'
import { mustBeTerminal, runExec, windowSize } from '../session-io.ts'

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
    ...(options.privileged === true ? { privileged: true } : {}),
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir }),
  }
  return await runExec(container, request, io, context)
}
