/** `darner wait`: waits until containers have ended, and prints their exit codes. */
import type { ExitReply } from '../../api/containers-api.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async (args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const ends = args.map((name) =>
    client.json<ExitReply>('POST', `/v1/containers/${encodeURIComponent(name)}/wait`, { signal: context.signal }),
  )
  for (const { exitCode } of await Promise.all(ends)) context.stdout.write(`${exitCode}\n`)
  return 0
}
