/** `darner why`: who read how much of a blob at its origin, and why, as the supernode has it on record. */

import type { WhyView } from '../../api/care-api.ts'
import { formatBytes } from '../../core/config/units.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async ([digest = ''], _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const view = await client.json<WhyView>('GET', `/v1/why/${encodeURIComponent(digest)}`, { signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(view)}\n`)
    return 0
  }
  if (view.reads.length === 0) context.stdout.write('no read at an origin is on record\n')
  for (const { peer, host, reason, bytes, atMs } of view.reads)
    context.stdout.write(`${new Date(atMs).toISOString()}  ${formatBytes(bytes)}  ${host ?? peer}  ${reason}\n`)
  return 0
}
