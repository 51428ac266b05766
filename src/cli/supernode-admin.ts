/** How commands change the supernode of this host: through the socket in its data directory. */
import { join } from 'node:path'
import { DarnerError, isDarnerError } from '../core/errors.ts'
import { daemonSettings } from '../daemon/daemon.ts'
import { AgentClient } from './client.ts'
import type { CommandContext } from './context.ts'

const ADMIN_SOCKET = 'admin.sock'

/** Posts to an admin route. Throws the supernode's own error, or SUPERNODE_UNREACHABLE when none runs on this data directory. */
export async function askAdmin(
  path: string,
  body: object,
  options: Record<string, unknown>,
  context: CommandContext,
): Promise<void> {
  const { data } = await daemonSettings('supernode', options, context)
  const socket = join(data, ADMIN_SOCKET)
  try {
    await new AgentClient({ socket }).json('POST', path, { body, signal: context.signal })
  } catch (error) {
    if (!isDarnerError(error, 'AGENT_UNREACHABLE')) throw error
    throw new DarnerError('SUPERNODE_UNREACHABLE', `no supernode answers on ${socket}`, {
      cause: error,
      way: 'run this on its host, as the user that it runs as, with its --data',
    })
  }
}
