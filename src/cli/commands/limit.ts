/** `darner limit`: the rate limits of this host. */
import type { LimitList } from '../../wire/care-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { limitText } from '../limit-words.ts'

export const action: Action = async (_args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const { limits } = await client.json<LimitList>('GET', '/v1/limits', { signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(limits)}\n`)
  else if (limits.length === 0) context.stdout.write('no limits\n')
  else for (const one of limits) context.stdout.write(`${limitText(one)}\n`)
  return 0
}
