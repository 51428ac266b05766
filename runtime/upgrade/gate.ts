/** Whether the new container may stay: its health check, or the word of its init, or, without both, that it does not end at once. */
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { Entry } from '../containers/entry.ts'
import { checkOf, type HealthResult } from '../containers/health.ts'
import { ALIVE } from '../containers/states.ts'

export interface GateParts {
  readonly clock: Clock
  /** One run of its health check. */
  readonly probe: (entry: Entry, options: { signal: AbortSignal }) => Promise<HealthResult>
}

/** How long one without a check has to run. */
const STEADY_MS = 2000
const HEALTH_LOOK_MS = 100
const MOST_OUTPUT = 300

/**
 * Resolves when it may stay. `again`: an agent before this one started it, so that what its init said may have been missed. Throws
 * COMMAND_FAILED when it ended, TIMED_OUT when it didn't report ready in time.
 */
export async function passGate(
  entry: Entry,
  { clock, probe }: GateParts,
  { timeoutMs, again, signal }: { timeoutMs: number; again: boolean; signal: AbortSignal },
): Promise<void> {
  const startedMs = clock.monotonicMs()
  const over = new AbortController()
  // from the record: the wait itself reports less
  const ended = entry.ended
    .wait({ signal })
    .finally(() => over.abort())
    .then(nothing, nothing)
  let last: HealthResult | undefined
  for (;;) {
    mustBeAlive(entry)
    const passedMs = clock.monotonicMs() - startedMs
    const { rich } = entry.record.request
    if (checkOf(entry)) {
      const probing = probe(entry, { signal: anySignal([signal, over.signal]) }).catch((error: unknown) => {
        if (!over.signal.aborted) throw error
      })
      last = (await Promise.race([probing, ended])) ?? last
      mustBeAlive(entry)
      if (last?.exitCode === 0) return
    } else if (rich === 'systemd' && !again) {
      if (entry.record.readyAt !== undefined) return
    } else if (passedMs >= Math.min(STEADY_MS, timeoutMs)) return
    if (passedMs >= timeoutMs) throw timedOut(entry, timeoutMs, last)
    await Promise.race([clock.sleep(HEALTH_LOOK_MS, { signal }), ended])
  }
}

const nothing = () => undefined

function mustBeAlive({ record }: Entry): void {
  if (ALIVE.includes(record.status)) return
  const why = record.error === undefined ? '' : `: ${record.error}`
  throw new DarnerError('COMMAND_FAILED', `the new container ended with exit code ${record.exitCode ?? 0}${why}`)
}

function timedOut({ record }: Entry, timeoutMs: number, last: HealthResult | undefined): DarnerError {
  const said =
    last === undefined ? '' : `; the last check gave ${last.exitCode}: ${last.output.trim().slice(0, MOST_OUTPUT)}`
  const what =
    last === undefined && record.request.rich === 'systemd'
      ? 'its init did not say that it is up'
      : 'it was not healthy'
  return new DarnerError('TIMED_OUT', `${what} within ${timeoutMs} ms${said}`)
}
