/** Preheating on one host: fetches what the supernode names, in the background and a few blobs at a time, and reports each. */
import PQueue from 'p-queue'
import type { ContentSource } from '../src/core/contracts/content.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, errorLine } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import { withDeadline } from '../src/core/signals.ts'
import type { PreheatNotice } from '../src/protocol/preheat.ts'
import type { PreheatRates } from './preheat-rates.ts'

export interface PreheaterOptions {
  readonly concurrency: number
  /** Blobs that wait; more are refused. */
  readonly maxWaiting: number
}

export interface PreheaterParts {
  readonly content: ContentSource
  readonly rates: PreheatRates
  readonly report: (id: string, digest: string, error: string | undefined) => void
  readonly log: Log
  /** Ends all fetches. */
  readonly signal: AbortSignal
}

export class Preheater {
  readonly #options: PreheaterOptions
  readonly #parts: PreheaterParts
  readonly #queue: PQueue

  constructor(options: PreheaterOptions, parts: PreheaterParts) {
    this.#options = options
    this.#parts = parts
    this.#queue = new PQueue({ concurrency: options.concurrency })
  }

  take(notice: PreheatNotice): void {
    const { log, report, signal } = this.#parts
    log.info({ preheat: notice.id, repository: notice.repository, blobs: notice.blobs.length }, 'preheat begun')
    const deadline = withDeadline(signal, notice.deadlineMs)
    const held = notice.bytesPerSec === undefined ? undefined : this.#parts.rates.hold(notice.bytesPerSec)
    const fetches: Promise<void>[] = []
    for (const blob of notice.blobs) {
      if (this.#queue.size >= this.#options.maxWaiting) {
        report(notice.id, blob.digest, `more than ${this.#options.maxWaiting} blobs wait to be fetched ahead`)
        continue
      }
      fetches.push(this.#queue.add(() => this.#fetch(notice, blob, deadline)))
    }
    if (held !== undefined) void Promise.all(fetches).finally(() => held[Symbol.dispose]())
  }

  /** Never rejects. */
  async #fetch(
    { id, upstream, repository }: PreheatNotice,
    { digest, bytes }: PreheatNotice['blobs'][number],
    signal: AbortSignal,
  ): Promise<void> {
    const { content, report, log } = this.#parts
    try {
      await using blob = await content.open(
        {
          origin: { kind: 'registry', upstream, repository, collection: 'blobs' },
          digest: digest as Digest,
          bytes,
          priority: 'background',
          preheat: id,
        },
        { signal },
      )
      await blob.whole({ signal })
      report(id, digest, undefined)
    } catch (error) {
      const known = asDarnerError(error, `preheat of ${digest}`)
      log.warn({ preheat: id, digest, error: known.message }, 'preheat failed')
      // that the time is over is for the supernode to tell, of all hosts alike
      if (signal.aborted) return
      report(id, digest, errorLine(known).slice(0, 512))
    }
  }
}
