/** `darner network prune`: removes the networks that no container uses; prints their names. */
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = async (_args, _options, context) => {
  const removed = await new NetworkClient({ socket: context.socket }).prune({ signal: context.signal })
  for (const name of removed) context.stdout.write(`${name}\n`)
  return 0
}
