/**
 * In a line, whether the parent that is asked for everything is slow. The parent is doubted when one of a later rank reports that it gets
 * far more. If the other is a seed, which reports nothing, the parent is doubted when it got nothing at first. It is also doubted when it
 * gets pieces and gives none. The other one is then asked beside it, and replaces it once it has given far more. If the child itself is
 * slow, both parents look equally slow.
 */
import type { PlanParent } from './plan-parent.ts'

/** What a parent got that is doubted, and one of a later turn meanwhile; what the two gave us, in pieces, to settle it. */
const GETS_LESS = 1
const GETS_MORE = 8
const GIVES_LESS = 1
const GIVES_MORE = 5
/** So many times what a parent gave is far more; above so many it isn't clear yet. */
const FAR_MORE = 4
const UNCLEAR = 2
/** How often a parent is doubted. */
const DOUBTS = 3
/** How long that is compared before it begins anew. */
const COMPARE_MS = 1000
/** How long a parent may take at first before a seed is asked beside it, or before it gives of what it gets. */
const DOUBT_MS = 250

interface Compared<P> {
  readonly main: PlanParent<P>
  readonly sinceMs: number
  /** How often it may still be doubted. A time in which nobody got anything doesn't count. */
  readonly doubts: number
  /** What each held, and how many pieces it had given us. */
  readonly of: ReadonlyMap<PlanParent<P>, readonly [held: number, gave: number]>
  /** What those had given us that are asked beside it, when that began. Others may only give what they were asked for in its place before. */
  readonly asked: Map<PlanParent<P>, number>
}

export interface Doubted<P> {
  /** Those to ask for something beside it. */
  readonly beside: readonly PlanParent<P>[]
  /** It is slow: others are to be asked in its place. */
  readonly slow: boolean
}

const TRUSTED: Doubted<never> = { beside: [], slow: false }

export class Doubt<P> {
  #compared: Compared<P> | undefined

  /** Compares the parent that is asked for everything with all others, as they are now, where so many pieces are here. */
  look(main: PlanParent<P>, all: readonly PlanParent<P>[], here: number, nowMs: number): Doubted<P> {
    const before = this.#compared
    if (before?.main !== main) {
      this.#begin(main, all, nowMs, DOUBTS)
      return TRUSTED
    }
    const elapsedMs = nowMs - before.sinceMs
    const [mainHeld = 0, mainGave = 0] = before.of.get(main) ?? []
    const gained = main.held - mainHeld
    const gives = main.answers - mainGave
    const keeps =
      elapsedMs >= DOUBT_MS && gives <= GIVES_LESS && Math.min(gained - gives, main.held - here) >= GETS_MORE
    const beside: PlanParent<P>[] = []
    let moved = gained > 0
    for (const other of all) {
      const [held = other.held] = before.of.get(other) ?? []
      const gave = before.asked.get(other) ?? other.answers
      moved ||= other.held > held
      if (other === main || other.suspectMs > 0) continue
      const more = other.answers - gave
      if (more >= Math.max(GIVES_MORE, FAR_MORE * gives)) return { beside, slow: true }
      if (before.doubts === 0) continue
      if (!other.announces) {
        // once asked it goes on being asked until it is clear which of the two gives more
        const unclear = before.asked.has(other) && (gives <= GIVES_LESS || more > UNCLEAR * gives)
        const late = elapsedMs >= DOUBT_MS && (gained <= GIVES_LESS || unclear)
        if (before.doubts === DOUBTS && (keeps || late)) beside.push(other)
      } else if (other.held - held >= GETS_MORE && (keeps || (gained <= GETS_LESS && other.held > main.held)))
        beside.push(other)
    }
    for (const other of beside) if (!before.asked.has(other)) before.asked.set(other, other.answers)
    if (elapsedMs > COMPARE_MS) this.#begin(main, all, nowMs, moved ? Math.max(0, before.doubts - 1) : before.doubts)
    return beside.length === 0 ? TRUSTED : { beside, slow: false }
  }

  #begin(main: PlanParent<P>, all: readonly PlanParent<P>[], sinceMs: number, doubts: number): void {
    const before = this.#compared?.main === main ? this.#compared.asked.keys() : []
    const asked = new Map([...before].map((one) => [one, one.answers]))
    this.#compared = { main, sinceMs, doubts, of: new Map(all.map((one) => [one, [one.held, one.answers]])), asked }
  }
}
