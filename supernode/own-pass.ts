/** The supernode's own right to read a task, which it shows to a host that it reads from. */
import type { Clock } from '../src/core/clock.ts'
import type { TaskId } from '../src/core/task/task.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { PASS_MS, signPass } from '../src/protocol/pass.ts'

export function ownPass(task: TaskId, parts: { node: Node; identity: Identity; clock: Clock }): Uint8Array {
  const { node, identity, clock } = parts
  const expiresMs = clock.now() + PASS_MS
  return signPass({ task, reader: node.peerId, scope: 'public', expiresMs }, identity.sign)
}
