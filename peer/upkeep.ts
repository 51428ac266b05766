/**
 * What a peer does on its own. It checks and announces partial tasks of earlier runs and looks for bit rot from time to time. What is
 * rotten it fetches again through the swarm.
 */
import type { Clock } from '../src/core/clock.ts'
import { asDarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import type { Scope } from '../src/core/scope.ts'
import type { Store } from '../src/store/store.ts'
import type { Engine } from './downloader/downloader.ts'
import type { OriginBook } from './origin-book.ts'
import type { SchedulerClient } from './scheduler-client.ts'

export interface UpkeepOptions {
  /** From the end of one scrub to the next; the first comes this long after the start. */
  readonly scrubMs: number
  readonly scrubBytesPerSec: number
}

export interface UpkeepParts {
  readonly store: Store
  readonly engine: Engine
  readonly scheduler: SchedulerClient
  readonly origins: OriginBook
  readonly clock: Clock
  readonly log: Log
}

/** Runs until the scope ends. */
export function startUpkeep(scope: Scope, options: UpkeepOptions, parts: UpkeepParts): void {
  const { store, scheduler, clock, log } = parts
  scope.run((signal) => wakeDormant(parts, signal))
  scope.defer(
    store.onDamage((damage) => {
      scheduler.forget([damage.task.id])
      scope.run((signal) => heal(damage, parts, signal))
    }),
  )
  scope.run(async (signal) => {
    for (;;) {
      await clock.sleep(options.scrubMs, { signal })
      const report = await store.scrub({ bytesPerSec: options.scrubBytesPerSec, signal })
      log.info({ blobs: report.blobs, bytes: report.bytes, damaged: report.damaged.length }, 'scrubbed')
    }
  })
}

/** Half-done tasks count once their pieces were hashed again: then others may have them. */
async function wakeDormant({ store, scheduler, log }: UpkeepParts, signal: AbortSignal): Promise<void> {
  const dormant = [...store.tasks()].filter((one) => one.state === 'dormant').map((one) => one.task.id)
  let woken = 0
  for (const id of dormant) {
    try {
      const stored = await store.reopen(id, { signal })
      if (stored === undefined) continue
      if (!stored.complete) store.left(stored)
      woken++
    } catch (error) {
      signal.throwIfAborted()
      log.warn({ taskId: id, error: asDarnerError(error, 'reopen').message }, 'half-done task not reopened')
    }
  }
  if (woken === 0) return
  log.info({ tasks: woken }, 'half-done tasks reopened')
  await scheduler.announce({ signal })
}

async function heal(
  { task, digest, pieces }: { task: { id: string; bytes: number }; digest: string; pieces: readonly number[] },
  { engine, origins, log }: UpkeepParts,
  signal: AbortSignal,
): Promise<void> {
  const about = { taskId: task.id, pieces: pieces.length }
  try {
    const origin = await origins.of(digest as never)
    if (origin === undefined) {
      log.warn(about, 'bit rot stays until the blob is asked for: its origin is not known')
      return
    }
    await using content = await engine.open(
      { origin, digest: digest as never, bytes: task.bytes, priority: 'background' },
      { signal },
    )
    const summary = await content.whole({ signal })
    log.info({ ...about, from: summary.from }, 'bit rot healed')
  } catch (error) {
    signal.throwIfAborted()
    log.warn({ ...about, error: asDarnerError(error, 'heal').message }, 'bit rot not healed yet')
  }
}
