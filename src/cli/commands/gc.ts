/** `darner gc`: deletes blobs that nothing holds. */

import type { CollectView } from '../../api/care-api.ts'
import { formatBytes, parseBytes } from '../../core/config/units.ts'
import { DarnerError } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async (_args, options, context) => {
  const dryRun = options.dryRun === true
  const targetBytes = options.to === undefined ? 0 : parseBytes(String(options.to))
  if (targetBytes === undefined)
    throw new DarnerError('BAD_ARGUMENT', `gc --to ${JSON.stringify(options.to)}: expected a size such as 20GiB`)
  const client = new AgentClient({ socket: context.socket })
  const body = { dryRun, targetBytes }
  const view = await client.json<CollectView>('POST', '/v1/store/collect', { body, signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(view)}\n`)
    return 0
  }
  for (const { task, bytes } of view.victims) context.stdout.write(`${task}  ${formatBytes(bytes)}\n`)
  const what = dryRun ? 'would be freed' : 'freed'
  context.stdout.write(`${formatBytes(view.freedBytes)} of ${formatBytes(view.usedBytes)} ${what}\n`)
  return 0
}
