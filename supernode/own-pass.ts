/** The supernode's own right to read a task, which it shows to a host that it reads from. */
import type { Clock } from '../src/core/clock.ts'
import type { Task } from '../src/core/task/task.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { PASS_MS, signOwnPass } from '../src/protocol/pass.ts'
import type { Came } from '../src/rights/came.ts'

/** `through`: what it passes on to readers with a right there; `all`: what it only compares. */
export function ownPass(
  task: Pick<Task, 'id' | 'bytes'>,
  through: Came | 'all',
  parts: { node: Node; identity: Identity; clock: Clock },
): Uint8Array {
  const { node, identity, clock } = parts
  return signOwnPass({ task, self: node.peerId, through, expiresMs: clock.now() + PASS_MS }, identity.sign)
}
