/** `darner df`: what the store of this host holds, and what unpacked layers take. */

import type { StoreView } from '../../api/care-api.ts'
import type { LayerUse } from '../../api/images-api.ts'
import { formatBytes } from '../../core/config/units.ts'
import { AgentClient, withEngine } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async (_args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const { signal } = context
  const [view, unpacked] = await Promise.all([
    client.json<StoreView>('GET', '/v1/store', { signal }),
    withEngine(client.json<LayerUse>('GET', '/v1/layers', { signal })),
  ])
  if (context.json) {
    context.stdout.write(`${JSON.stringify({ ...view, ...(unpacked && { unpacked }) })}\n`)
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
  if (unpacked !== undefined) {
    const { layers, bytes, usedBytes } = unpacked
    lines.push(`layers       ${formatBytes(bytes)} in ${layers} unpacked; containers use ${formatBytes(usedBytes)}`)
  }
  context.stdout.write(`${lines.join('\n')}\n`)
  return 0
}
