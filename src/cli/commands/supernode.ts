/** `darner supernode`: runs the supernode until a signal ends it. */
import type { SupernodeSettings } from '../../core/config/schema.ts'
import { daemonSettings, untilStopped } from '../../daemon/daemon.ts'
import type { Action, CommandContext } from '../context.ts'

export const action: Action = async (_args, options, context) => {
  const settings = await daemonSettings('supernode', options, context)
  const { openDaemonLog } = await import('../../daemon/compose-shared.ts')
  const { composeSupernode } = await import('../../daemon/compose-supernode.ts')
  const { signal } = context
  signal.throwIfAborted()
  const log = await openDaemonLog(settings)
  await using running = await composeSupernode(settings, { log, signal, env: context.env })
  announce(running.supernode.multiaddrs, settings, running.http, context)
  log.info({ multiaddrs: running.supernode.multiaddrs, http: running.http, open: settings.open }, 'supernode ready')
  return await untilStopped(context.signal, running.supernode.failed, log)
}

/** The one line on stdout: where agents join. */
function announce(
  multiaddrs: readonly string[],
  settings: SupernodeSettings,
  http: string,
  context: CommandContext,
): void {
  if (context.json) context.stdout.write(`${JSON.stringify({ multiaddrs, http, open: settings.open })}\n`)
  else context.stdout.write(`${multiaddrs[0] ?? ''}\n`)
}
