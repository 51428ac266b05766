/** `darner df`: what the store of this host holds. */

import type { StoreView } from '../../api/care-api.ts'
import { formatBytes } from '../../core/config/units.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async (_args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const view = await client.json<StoreView>('GET', '/v1/store', { signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(view)}\n`)
    return 0
  }
  const lines = [
    `complete     ${formatBytes(view.completeBytes)} in ${view.blobs} blobs`,
    `half done    ${formatBytes(view.partialBytes)} in ${view.partials} tasks`,
    `pinned       ${formatBytes(view.pinnedBytes)}`,
    `being read   ${formatBytes(view.leasedBytes)}`,
    `reclaimable  ${formatBytes(view.reclaimableBytes)}`,
    `disk         ${formatBytes(view.freeBytes)} left`,
    `collection   above ${formatBytes(view.highBytes)}, down to ${formatBytes(view.lowBytes)}`,
  ]
  context.stdout.write(`${lines.join('\n')}\n`)
  return 0
}
