/** `darner supernode allow`: lets a host join without a token, also one that was revoked or banned. */
import type { Action } from '../context.ts'
import { askAdmin } from '../supernode-admin.ts'

export const action: Action = async ([peer = ''], options, context) => {
  await askAdmin(`/v1/peers/${encodeURIComponent(peer)}/allow`, {}, options, context)
  context.stdout.write(`${peer} allowed\n`)
  return 0
}
