/**
 * The two transitions between swarm and origin. One notices a fetch that stands still because its supernode is gone, for readers that may
 * go to an origin themselves. The other hands such a read back once there is a supernode again.
 */
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'

const STALL_LOOK_MS = 100
/** Among hosts that still know each other one reads for all: each has a turn before everybody reads alone. */
const NEIGHBOURS_MS = 30_000

export interface AloneParts {
  readonly connected: () => boolean
  /** Pieces that are here. */
  readonly have: () => number
  /** How many hosts it still fetches from: one of them reads what lacks, for all. */
  readonly neighbours: () => number
  readonly clock: Clock
}

/**
 * Runs `work` under a signal that aborts with TASK_FAILED when, without a supernode, no piece has come for `patienceMs`. Among peers
 * that still serve each other a fetch goes on for as long as they do.
 */
export async function unlessAlone<T>(
  patienceMs: number,
  parts: AloneParts,
  work: (signal: AbortSignal) => Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  const alone = new AbortController()
  const over = new AbortController()
  const watching = watch(patienceMs, parts, alone, anySignal([signal, over.signal]))
  try {
    return await work(anySignal([signal, alone.signal]))
  } catch (error) {
    throw alone.signal.aborted && !signal.aborted ? alone.signal.reason : error
  } finally {
    over.abort()
    await watching
  }
}

/**
 * Runs `work` under a signal that aborts when there is a supernode: `handedBack` then says so. The supernode must have stayed for
 * `settleMs`, or each of its short lives would cost a read at the origin.
 */
export async function untilBack<T>(
  settleMs: number,
  { connected, clock }: Pick<AloneParts, 'connected' | 'clock'>,
  work: (signal: AbortSignal) => Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<{ readonly done: T } | 'handedBack'> {
  const back = new AbortController()
  const over = new AbortController()
  const watching = watchForReturn(settleMs, { connected, clock }, back, anySignal([signal, over.signal]))
  try {
    return { done: await work(anySignal([signal, back.signal])) }
  } catch (error) {
    if (signal.aborted || !back.signal.aborted) throw error
    return 'handedBack'
  } finally {
    over.abort()
    await watching
  }
}

/** Never rejects. */
async function watchForReturn(
  settleMs: number,
  { connected, clock }: Pick<AloneParts, 'connected' | 'clock'>,
  back: AbortController,
  signal: AbortSignal,
): Promise<void> {
  let sinceMs: number | undefined
  try {
    for (;;) {
      await clock.sleep(STALL_LOOK_MS, { signal })
      const now = clock.monotonicMs()
      if (!connected()) sinceMs = undefined
      else sinceMs ??= now
      if (sinceMs !== undefined && now - sinceMs >= settleMs) {
        back.abort(new DOMException('there is a supernode again', 'AbortError'))
        return
      }
    }
  } catch {
    // the signal's reason: the read is over
  }
}

/** Never rejects. */
async function watch(
  patienceMs: number,
  { connected, have, neighbours, clock }: AloneParts,
  alone: AbortController,
  signal: AbortSignal,
): Promise<void> {
  let sinceMs = clock.monotonicMs()
  let seen = have()
  try {
    for (;;) {
      await clock.sleep(STALL_LOOK_MS, { signal })
      const now = clock.monotonicMs()
      if (connected() || have() !== seen) {
        seen = have()
        sinceMs = now
      } else if (now - sinceMs >= (neighbours() > 0 ? Math.max(patienceMs, NEIGHBOURS_MS) : patienceMs)) {
        alone.abort(
          new DarnerError('TASK_FAILED', `no piece came for ${Math.round(now - sinceMs)} ms and the supernode is gone`),
        )
        return
      }
    }
  } catch {
    // the signal's reason: the fetch is over
  }
}
