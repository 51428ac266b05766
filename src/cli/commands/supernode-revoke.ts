/** `darner supernode revoke`: takes a host out of the swarm. */
import type { Action } from '../context.ts'
import { askAdmin } from '../supernode-admin.ts'

export const action: Action = async ([peer = ''], options, context) => {
  await askAdmin(
    `/v1/peers/${encodeURIComponent(peer)}/revoke`,
    { why: String(options.why ?? 'by the operator') },
    options,
    context,
  )
  context.stdout.write(`${peer} revoked\n`)
  return 0
}
