/** What the two daemon commands share: their settings, and running until a signal ends them. */
import { getCompileCacheDir } from 'node:module'
import { dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { ownCodeFolder } from '../core/code-cache.ts'
import type { Role, SettingsOf } from '../core/config/schema.ts'
import type { Log } from '../core/log.ts'
import { abortable } from '../core/signals.ts'
import { trimCode } from './trim-code.ts'

/** What a daemon needs of the command that runs it. */
export interface DaemonCaller {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stderr: Writable
  readonly signal: AbortSignal
}

/** The role's settings from flags, environment and file. Warnings go to stderr, one line each. */
export async function daemonSettings<R extends Role>(
  role: R,
  options: Record<string, unknown>,
  caller: DaemonCaller,
): Promise<SettingsOf[R]> {
  const { loadSettings } = await import('../core/config/load.ts')
  const { settings, warnings } = await loadSettings(role, {
    flags: options,
    env: caller.env,
    ...(typeof options.config === 'string' ? { file: options.config } : {}),
    signal: caller.signal,
  })
  for (const line of warnings) caller.stderr.write(`darner: ${line}\n`)
  return settings
}

/** Resolves with exit code 0 once the signal says stop; throws the first failure of a background part. */
export async function untilStopped(signal: AbortSignal, failed: Promise<unknown>, log: Log): Promise<number> {
  const failure = failed.then((error) => {
    throw error
  })
  failure.catch(() => {})
  const trimmed = trimOwnCode(log)
  try {
    await abortable(failure, signal)
  } catch (error) {
    if (!signal.aborted) throw error
    log.info({}, 'stopping')
  }
  await trimmed
  return 0
}

/** A daemon starts seldom enough to look. Only darner's own folder: one that NODE_COMPILE_CACHE names is somebody else's. */
async function trimOwnCode(log: Log): Promise<void> {
  const folder = ownCodeFolder()
  const own = getCompileCacheDir()
  if (own === undefined || dirname(own) !== folder) return
  try {
    const removed = await trimCode(folder, Date.now())
    if (removed.length > 0) log.info({ folder, removed }, 'compiled code of versions that have gone removed')
  } catch (error) {
    log.warn({ folder, error }, 'compiled code of versions that have gone could not be removed')
  }
}
