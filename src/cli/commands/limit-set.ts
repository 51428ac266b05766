/** `darner limit set`: sets, changes or lifts one rate limit of this host, or says what gives way to other traffic, at once. */

import type { LimitList } from '../../api/care-api.ts'
import { DarnerError } from '../../core/errors.ts'
import { calledBlob } from '../called-blobs.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { limitLines, limitOf, scopeOf, yieldOf } from '../limit-words.ts'

export const action: Action = async ([what = '', rate = ''], options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const { signal } = context
  let list: LimitList
  if (what === 'yield') {
    if (options.direction !== undefined || options.borrow === true)
      throw new DarnerError('BAD_ARGUMENT', 'limit set yield: it has no --direction and no --borrow')
    list = await client.json<LimitList>('PUT', '/v1/limits/yield', { body: { uploadYield: yieldOf(rate) }, signal })
  } else {
    const named = scopeOf(what, options.direction)
    const scope = named.on === 'task' ? { ...named, task: await calledBlob(named.task, context) } : named
    const limit = limitOf(rate, options.borrow === true)
    const body = { scope, ...(limit === undefined ? {} : { limit }) }
    list = await client.json<LimitList>('PUT', '/v1/limits', { body, signal })
  }
  for (const line of limitLines(list)) context.stdout.write(`${line}\n`)
  return 0
}
