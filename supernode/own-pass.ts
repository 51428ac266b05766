/** The supernode's own right to read a task, which it shows to a host that it reads from. */
import type { Clock } from '../src/base/clock.ts'
import type { Identity } from '../src/net/identity.ts'
import type { Node } from '../src/net/node.ts'
import type { TaskId } from '../src/task/task.ts'
import { PASS_MS, signPass } from '../src/wire/pass.ts'

export function ownPass(task: TaskId, parts: { node: Node; identity: Identity; clock: Clock }): Uint8Array {
  const { node, identity, clock } = parts
  const expiresMs = clock.now() + PASS_MS
  return signPass({ task, reader: node.peerId, scope: 'public', expiresMs }, identity.sign)
}
