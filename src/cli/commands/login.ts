/** `darner login`: has a registry check a name and a password, and keeps them in docker's configuration, where pull and push look. */
import { createInterface } from 'node:readline/promises'
import { DarnerError } from '../../core/errors.ts'
import type { Action, CommandContext } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { changeAuths, HUB_KEY } from '../docker-config.ts'
import { text } from '../option-values.ts'

export const action: Action = async ([server], options, context) => {
  const username = text(options, 'username')
  if (username === undefined || username === '') throw new DarnerError('BAD_ARGUMENT', 'login: name a user with -u')
  const password = await passwordOf(options, context)
  const client = new DockerClient({ socket: context.socket })
  const body = { username, password, serveraddress: server ?? HUB_KEY }
  const { Status } = await client.json<{ Status: string }>('POST', '/auth', { body, signal: context.signal })
  const auth = Buffer.from(`${username}:${password}`).toString('base64')
  await changeAuths(context.env, (auths) => ({ ...auths, [server ?? HUB_KEY]: { auth } }))
  context.stdout.write(`${Status}\n`)
  return 0
}

async function passwordOf(options: Readonly<Record<string, unknown>>, context: CommandContext): Promise<string> {
  const given = text(options, 'password')
  if (given !== undefined) return given
  if (options.passwordStdin !== true)
    throw new DarnerError('BAD_ARGUMENT', 'login: no password is given', { way: 'pipe it in with --password-stdin' })
  const lines = createInterface({ input: context.stdin })
  for await (const line of lines) {
    lines.close()
    return line
  }
  throw new DarnerError('BAD_ARGUMENT', 'login: standard input has no password')
}
