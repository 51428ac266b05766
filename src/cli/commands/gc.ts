/** `darner gc`: deletes blobs that nothing holds. */

import type { CollectView } from '../../api/care-api.ts'
import { formatBytes, parseBytes } from '../../core/config/units.ts'
import { DarnerError, EXIT, isDarnerError } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import { agreed } from '../consent.ts'
import type { Action, CommandContext } from '../context.ts'

export const action: Action = async (_args, options, context) => {
  const dryRun = options.dryRun === true
  const targetBytes = options.to === undefined ? 0 : parseBytes(String(options.to))
  if (targetBytes === undefined)
    throw new DarnerError('BAD_ARGUMENT', `gc --to ${JSON.stringify(options.to)}: expected a size such as 20GiB`)
  const client = new AgentClient({ socket: context.socket })
  const { stdout, json, signal } = context
  const collect = (only: boolean) =>
    client.json<CollectView>('POST', '/v1/store/collect', { body: { dryRun: only, targetBytes }, signal })
  if (!dryRun && options.force !== true) {
    const { victims, freedBytes } = await collect(true)
    if (victims.length > 0 && !(await mayDelete(victims.length, freedBytes, context))) return EXIT.failed
  }
  const view = await collect(dryRun)
  if (json) {
    stdout.write(`${JSON.stringify(view)}\n`)
    return EXIT.done
  }
  for (const { task, bytes } of view.victims) stdout.write(`${task}  ${formatBytes(bytes)}\n`)
  const words = dryRun ? 'would be freed' : 'freed'
  stdout.write(`${formatBytes(view.freedBytes)} of ${formatBytes(view.usedBytes)} ${words}\n`)
  return EXIT.done
}

/** Where nobody can be asked, the refusal says what would have gone. */
async function mayDelete(count: number, bytes: number, context: CommandContext): Promise<boolean> {
  const what = `${count} ${count === 1 ? 'blob' : 'blobs'} that nothing holds, ${formatBytes(bytes)}`
  try {
    return await agreed(`This will delete ${what}.\n`, context)
  } catch (error) {
    if (!isDarnerError(error, 'BAD_ARGUMENT')) throw error
    throw new DarnerError('BAD_ARGUMENT', `gc would delete ${what}, but ${error.message}`, {
      cause: error,
      way: 'use --force, or --dry-run to see which',
    })
  }
}
