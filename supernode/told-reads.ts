/** What hosts tell of their own reads at origins: so many a host, in plain text, so that log and records stay small and readable. */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../src/core/clock.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import { upTo } from '../src/core/up-to.ts'

/** A host that was without a supernode for long reports so many at once. */
const BURST = 2048
const EACH_MS = 100
const MAX_HOSTS = 65_536

export class ToldReads {
  readonly #clock: Clock
  /** Until when what each host reported is paid for. */
  readonly #paidMs = new LRUCache<PeerId, number>(upTo(MAX_HOSTS))

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Whether a host may tell of one more read now. */
  takes(peer: PeerId): boolean {
    const now = this.#clock.monotonicMs()
    const paid = Math.max(now - BURST * EACH_MS, this.#paidMs.get(peer) ?? Number.NEGATIVE_INFINITY)
    if (paid + EACH_MS > now) return false
    this.#paidMs.set(peer, paid + EACH_MS)
    return true
  }
}

/** A text of another host as one line: what would move a terminal's cursor is a space. */
export function plainText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ')
}
