/** `darner gc`: deletes blobs that nothing holds. */

import type { CollectView } from '../../api/care-api.ts'
import { formatBytes, parseBytes } from '../../core/config/units.ts'
import { DarnerError, EXIT, isDarnerError } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import { agreed } from '../consent.ts'
import type { Action } from '../context.ts'

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
    const what = `This will delete ${victims.length} blobs that nothing holds, ${formatBytes(freedBytes)}.\n`
    if (victims.length > 0 && !(await agreed(what, context).catch((error) => nobodyAsked(error, what))))
      return EXIT.failed
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

/** The refusal says what would have gone. */
function nobodyAsked(error: unknown, what: string): never {
  if (!isDarnerError(error, 'BAD_ARGUMENT')) throw error
  throw new DarnerError('BAD_ARGUMENT', `${what.trim().replace(/\.$/, '')}, and ${error.message}`, {
    cause: error,
    way: 'use --force, or --dry-run to see which',
  })
}
