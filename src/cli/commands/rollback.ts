/** `darner rollback`: brings back what containers were before their last upgrade. */
import type { UpgradeReply } from '../../api/upgrade-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { whole } from '../option-values.ts'

export const action: Action = async (args, options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const healthTimeoutMs = whole(options, 'healthTimeout')
  const replies: UpgradeReply[] = []
  const code = await forEach(args, context.json ? { ...context, stdout: context.stderr } : context, async (name) => {
    const path = `/v1/containers/${encodeURIComponent(name)}/rollback`
    const body = healthTimeoutMs === undefined ? {} : { healthTimeoutMs }
    replies.push(await client.json<UpgradeReply>('POST', path, { body, signal: context.signal }))
  })
  if (context.json) context.stdout.write(`${JSON.stringify(replies)}\n`)
  return code
}
