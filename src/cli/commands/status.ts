/** `darner status`: what the agent of this host does now. */

import type { PeerStatus } from '../../api/peer-status.ts'
import { formatBytes } from '../../core/config/units.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { type MirrorState, mirrorLines } from '../mirror-setup/target.ts'

export const action: Action = async (_args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const { signal } = context
  const [status, mirror] = await Promise.all([
    client.json<PeerStatus>('GET', '/v1/peer', { signal }),
    client.json<MirrorState>('GET', '/v1/mirror', { signal }),
  ])
  if (context.json) {
    context.stdout.write(`${JSON.stringify({ ...status, mirror })}\n`)
    return 0
  }
  const { supernode, tasks, bytes } = status
  const held = tasks.filter((task) => task.complete)
  const lines = [
    `peer       ${status.peer}`,
    `lanes      ${status.lanes.join(', ') || 'none'}`,
    `supernode  ${supernode.peer} ${supernode.connected ? 'connected' : `not connected${supernode.trouble === undefined ? '' : `: ${supernode.trouble}`}`}`,
    `blobs      ${held.length} complete, ${formatBytes(held.reduce((sum, task) => sum + task.bytes, 0))}; ${formatBytes(bytes.sent)} served to others`,
    ...mirrorLines(mirror),
    ...tasks
      .filter((task) => !task.complete)
      .map(
        (task) =>
          `fetching   ${task.task} ${task.have}/${task.pieces} pieces${task.state === undefined ? ` (${task.trouble ?? 'paused'})` : ''}`,
      ),
  ]
  context.stdout.write(`${lines.join('\n')}\n`)
  return 0
}
