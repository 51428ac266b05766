/** `darner limit set`: sets, changes or lifts one rate limit of this host, at once. */
import type { LimitList } from '../../wire/care-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { limitOf, limitText, scopeOf } from '../limit-words.ts'

export const action: Action = async ([what = '', rate = ''], options, context) => {
  const scope = scopeOf(what, options.direction)
  const limit = limitOf(rate, options.borrow === true)
  const client = new AgentClient({ socket: context.socket })
  const body = { scope, ...(limit === undefined ? {} : { limit }) }
  const { limits } = await client.json<LimitList>('PUT', '/v1/limits', { body, signal: context.signal })
  for (const one of limits) context.stdout.write(`${limitText(one)}\n`)
  return 0
}
