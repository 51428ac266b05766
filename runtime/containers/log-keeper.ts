/** Rotates the logs of running containers that came to their length. It sleeps while none has a length to keep. */
import { statSync } from 'node:fs'
import type { Clock } from '../../src/core/clock.ts'
import { logBoundOf } from '../quota/log-bound.ts'
import { rotateIfLong } from '../shim/rotate.ts'
import type { Entry } from './entry.ts'
import { FAST_LOOK_MS, type LogLook, nextLookMs, SLOW_LOOK_MS } from './log-watch.ts'

/** What is done in the background of a container; failures are logged there. */
type Background = (id: string, work: () => Promise<void>) => void

interface Watched {
  readonly entry: Entry
  look: LogLook | undefined
  dueAt: number
  /** When the last rotation was done; Infinity while one is. */
  rotatedAt: number
}

/** Looks that are due within so much are taken together. */
const TOGETHER_MS = FAST_LOOK_MS / 2
const NOTHING_DUE_MS = 60_000

export class LogKeeper {
  readonly #clock: Clock
  readonly #background: Background
  readonly #watched = new Map<string, Watched>()
  #begun = Promise.withResolvers<void>()

  constructor(parts: { readonly clock: Clock; readonly background: Background }) {
    this.#clock = parts.clock
    this.#background = parts.background
  }

  /** A container runs. Nothing happens when its log may grow as it likes. */
  begin(entry: Entry): void {
    if (limitsOf(entry) === undefined) return
    const dueAt = this.#clock.monotonicMs() + FAST_LOOK_MS
    this.#watched.set(entry.id, { entry, look: undefined, dueAt, rotatedAt: Number.NEGATIVE_INFINITY })
    this.#begun.resolve()
  }

  /** It runs no more. */
  end(id: string): void {
    this.#watched.delete(id)
  }

  /** Until `signal` is aborted; rejects with its reason. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      this.#begun = Promise.withResolvers()
      const now = this.#clock.monotonicMs()
      const due = Math.min(now + NOTHING_DUE_MS, ...[...this.#watched.values()].map(({ dueAt }) => dueAt))
      await Promise.race([this.#clock.sleep(Math.max(1, due - now), { signal }), this.#begun.promise])
      const at = this.#clock.monotonicMs()
      for (const one of this.#watched.values()) if (one.dueAt - at < TOGETHER_MS) this.#look(one, at)
    }
  }

  #look(one: Watched, at: number): void {
    const { bundle, id } = one.entry
    const limits = limitsOf(one.entry)
    if (limits === undefined) {
      this.end(id) // an upgrade gave it others
      return
    }
    one.dueAt = at + FAST_LOOK_MS
    if (one.rotatedAt === Number.POSITIVE_INFINITY) return
    const bytes = statSync(bundle.log, { throwIfNoEntry: false })?.size
    if (bytes === undefined) {
      // conmon may not have come to it yet. Asked twice, it would begin the log anew over what it has written there. Missing for longer: an
      // agent ended while it rotated
      if (at - one.rotatedAt < SLOW_LOOK_MS) return
    } else {
      const look = { at, bytes }
      one.dueAt = at + nextLookMs(one.look, look, limits.maxBytes)
      one.look = look
      if (bytes <= limits.maxBytes) return
    }
    one.rotatedAt = Number.POSITIVE_INFINITY
    this.#background(id, async () => {
      try {
        await rotateIfLong(bundle, limits)
      } finally {
        one.rotatedAt = this.#clock.monotonicMs()
      }
    })
  }
}

function limitsOf({ record: { request } }: Entry): { maxBytes: number; maxFiles: number } | undefined {
  const { maxBytes, maxFiles = 1 } = request.log ?? {}
  if (maxBytes === undefined) return undefined
  return { maxBytes: Math.min(maxBytes, logBoundOf(request)?.stepBytes ?? maxBytes), maxFiles }
}
