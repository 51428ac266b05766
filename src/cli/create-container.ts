/** What `run` and `create` share: the request from all the flags, and the pull when its image isn't here. */
import { rmSync, writeFileSync } from 'node:fs'
import { DarnerError, isDarnerError, systemCode } from '../core/errors.ts'
import type { CommandContext } from './context.ts'
import { DockerClient } from './docker-client.ts'
import { networkOf } from './network-options.ts'
import { text } from './option-values.ts'
import { richOf } from './rich-options.ts'
import { createBody } from './run-options.ts'

const PULLS = ['always', 'missing', 'never']
/** The agent's words for an image that a pull brings. */
const NOT_HERE = /^No such image|does not match the specified platform/

interface Asked {
  readonly body: Record<string, unknown>
  readonly name: string | undefined
  readonly platform: string | undefined
}

/** The new container's id; warnings go to stderr. Throws BAD_ARGUMENT, and what pulling and creating throw. */
export async function createOrPull(
  args: readonly string[],
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<string> {
  const docker = new DockerClient({ socket: context.socket })
  const file = text(options, 'cidfile')
  // before there is a container: one whose id could not be written would be left behind
  if (file !== undefined) writeId(file, '', 'wx')
  try {
    const made = await orPull(args, options, context, ({ body, ...query }) =>
      docker.json<{ Id: string; Warnings: string[] | null }>('POST', '/containers/create', {
        body,
        query,
        signal: context.signal,
      }),
    )
    warn(made.Warnings ?? [], context)
    if (file !== undefined) writeId(file, made.Id, 'w')
    return made.Id
  } catch (error) {
    if (file !== undefined) rmSync(file, { force: true })
    throw error
  }
}

/** Tells of what the agent warned of. */
export function warn(warnings: readonly string[], context: CommandContext): void {
  for (const warning of warnings) context.stderr.write(`darner: warning: ${warning}\n`)
}

/** Has `make` make the container that is asked for; when its image isn't here, once more after a pull. Throws as {@link createOrPull}. */
export async function orPull<T>(
  args: readonly string[],
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
  make: (asked: Asked) => Promise<T>,
): Promise<T> {
  const policy = text(options, 'pull') ?? 'missing'
  if (!PULLS.includes(policy)) throw new DarnerError('BAD_ARGUMENT', `--pull ${policy} is not ${PULLS.join(', ')}`)
  const network = networkOf(options)
  const body = {
    ...(await createBody(args, options, context.env)),
    Darner: {
      ...network,
      ...richOf(options),
      ...(options.forceUnsupported === true ? { forceUnsupported: true } : {}),
    },
  }
  const asked = { body, name: text(options, 'name'), platform: text(options, 'platform') }
  if (policy === 'always') await pull(args[0] ?? '', options, context)
  return await make(asked).catch(async (error: unknown) => {
    if (policy !== 'missing' || !isDarnerError(error, 'NOT_FOUND') || !NOT_HERE.test(error.message)) throw error
    if (options.quiet !== true)
      context.stderr.write(`darner: ${args[0]} is not here${asked.platform ? ' for that platform' : ''}: pulling it\n`)
    await pull(args[0] ?? '', options, context)
    return await make(asked)
  })
}

async function pull(
  reference: string,
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<void> {
  const platform = text(options, 'platform')
  const { credentialOf, followPull } = await import('./pull-progress.ts')
  const request = {
    reference,
    ...(options.plainHttp === true ? { plainHttp: true } : {}),
    ...(platform === undefined ? {} : { platform }),
    ...(await credentialOf(reference, context)),
  }
  await followPull(request, context, { quiet: options.quiet === true })
}

function writeId(path: string, id: string, flag: 'w' | 'wx'): void {
  try {
    writeFileSync(path, id, { flag })
  } catch (error) {
    throw new DarnerError('BAD_ARGUMENT', `--cidfile ${path}: ${systemCode(error) ?? error}`, { cause: error })
  }
}
