/** Which blobs go when space is short: a pure choice, so that a dry run and a run can't differ. */

/** One thing that could go. */
export interface Collectable {
  readonly bytes: number
  /** Epoch milliseconds. */
  readonly lastUsedMs: number
  /** Why it must stay, if it must. A `recent`, partial blob whose fetcher has left stays unless space is needed. */
  readonly keep: 'pinned' | 'leased' | 'in use' | 'recent' | undefined
}

export interface Watermarks {
  /** Collection starts above this many bytes… */
  readonly highBytes: number
  /** …and goes on until no more than this are left. */
  readonly lowBytes: number
}

/**
 * The least recently used first, until `usedBytes` is down to `targetBytes` or nothing more may go; with `recent`, what is `recent` goes
 * after all else.
 */
export function pickVictims<T extends Collectable>(
  all: Iterable<T>,
  usedBytes: number,
  targetBytes: number,
  { recent }: { recent: boolean } = { recent: false },
): T[] {
  const victims: T[] = []
  let left = usedBytes
  const free = [...all]
    .filter((one) => one.keep === undefined || (recent && one.keep === 'recent'))
    .sort((a, b) => last(a) - last(b) || a.lastUsedMs - b.lastUsedMs || b.bytes - a.bytes)
  for (const one of free) {
    if (left <= targetBytes) break
    victims.push(one)
    left -= one.bytes
  }
  return victims
}

const last = ({ keep }: Collectable) => Number(keep === 'recent')

/** How far to go down: not at all below the high mark. */
export function targetOf(usedBytes: number, marks: Watermarks): number {
  return usedBytes > marks.highBytes ? marks.lowBytes : usedBytes
}
