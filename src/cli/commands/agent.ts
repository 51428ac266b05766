/** `darner agent`: runs the agent of this host until a signal ends it. */
import { DarnerError } from '../../core/errors.ts'
import { abortable, withDeadline } from '../../core/signals.ts'
import { daemonSettings, untilStopped } from '../../daemon/daemon.ts'
import type { Action } from '../context.ts'

/** How long the ready line waits for the supernode; after it the agent runs on and joins when it can. */
const JOIN_MS = 15_000

export const action: Action = async (_args, options, context) => {
  const settings = await daemonSettings('agent', options, context)
  if (settings.supernode.length === 0) {
    throw new DarnerError('CONFIG_INVALID', 'darner agent: no supernode is named', {
      way: 'give --supernode MULTIADDR: the line that "darner supernode" prints when it is ready',
    })
  }
  const { openDaemonLog } = await import('../../daemon/compose-shared.ts')
  const { composeAgent } = await import('../../daemon/compose-agent.ts')
  const { signal } = context
  signal.throwIfAborted()
  const log = await openDaemonLog(settings)
  await using running = await composeAgent(settings, { log, signal, env: context.env })
  const { scheduler } = running.peer
  const joined = await joinedWithin(scheduler.ready({ signal: withDeadline(context.signal, JOIN_MS) }), context.signal)
  if (joined === undefined) {
    context.stdout.write(
      context.json
        ? `${JSON.stringify({ joined: true, supernode: scheduler.supernode, socket: settings.socket })}\n`
        : `joined ${scheduler.supernode}, serving ${settings.socket}\n`,
    )
  } else if (!context.signal.aborted) {
    if (joined.code === 'ADMISSION_REFUSED') throw joined
    context.stderr.write(
      `darner: not joined to the swarm yet: ${joined.message}; the agent keeps trying, and reads from origins meanwhile\n`,
    )
  }
  return await untilStopped(context.signal, running.peer.failed, log)
}

async function joinedWithin(ready: Promise<void>, signal: AbortSignal): Promise<DarnerError | undefined> {
  try {
    await abortable(ready, signal)
    return undefined
  } catch (error) {
    if (error instanceof DarnerError) return error
    return new DarnerError('INTERRUPTED', 'stopped before it had joined', { cause: error })
  }
}
