/** What the two daemon commands share: their settings, and running until told to stop. */

import type { Log } from '../base/log.ts'
import { abortable } from '../base/signals.ts'
import type { Role, SettingsOf } from '../config/schema.ts'
import type { CommandContext } from './context.ts'

/** The role's settings from flags, environment and file. Warnings go to stderr, one line each. */
export async function daemonSettings<R extends Role>(
  role: R,
  options: Record<string, unknown>,
  context: CommandContext,
): Promise<SettingsOf[R]> {
  const { loadSettings } = await import('../config/load.ts')
  const { settings, warnings } = await loadSettings(role, {
    flags: options,
    env: context.env,
    ...(typeof options.config === 'string' ? { file: options.config } : {}),
    signal: context.signal,
  })
  for (const line of warnings) context.stderr.write(`darner: ${line}\n`)
  return settings
}

/** Resolves with exit code 0 once the signal says stop; throws the first failure of a background part. */
export async function untilStopped(signal: AbortSignal, failed: Promise<unknown>, log: Log): Promise<number> {
  const failure = failed.then((error) => {
    throw error
  })
  failure.catch(() => {})
  try {
    await abortable(failure, signal)
  } catch (error) {
    if (!signal.aborted) throw error
    log.info({}, 'stopping')
  }
  return 0
}
