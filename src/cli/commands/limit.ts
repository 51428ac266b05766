/** `darner limit`: the rate limits of this host, and what gives way to other traffic. */
import type { LimitList } from '../../api/care-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { limitLines } from '../limit-words.ts'

export const action: Action = async (_args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const list = await client.json<LimitList>('GET', '/v1/limits', { signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(list)}\n`)
  else for (const line of limitLines(list)) context.stdout.write(`${line}\n`)
  return 0
}
