/** What the plan knows of one parent: what it holds, what it was asked, how fast it answered. */
import { type Words, wordsFor } from './plan-bits.ts'

/** One question under way. `piece` is -1 for "any" until one was offered and taken. */
export interface Ask {
  piece: number
  readonly any: boolean
  /** Of "any": it comes without an offer. */
  readonly sure: boolean
  /** When it was asked, or the offer taken; once its first bytes are here, since then. */
  sinceMs: number
  /** Its first bytes are here. */
  started: boolean
  /** The parent waits for the rest itself. */
  waits: boolean
  /** Steps of it that came while the parent waited, or all of them once it has the whole; and when it was the last. */
  reached: number
  movedMs: number
  /** How many pieces had come from anybody when it was first looked at; -1 before that. */
  arrivals: number
}

/** A question that is asked now. */
export function newAsk(asked: Pick<Ask, 'piece' | 'any' | 'sure'>, nowMs: number): Ask {
  return { ...asked, sinceMs: nowMs, started: false, waits: false, reached: 0, movedMs: 0, arrivals: -1 }
}

export interface PlanParent<P> {
  readonly id: P
  readonly has: Words
  /** It announces what it has. A seed doesn't, and may have anything. */
  readonly announces: boolean
  /** Parents of the lowest turn are asked, those of the next once none of these will do. Above 0 hosts stand in a line. */
  turn: number
  /** How many pieces it is known to hold. */
  held: number
  /** Pieces it sent wrongly: never asked of it again. Made on first need. */
  banned: Set<number> | undefined
  readonly asks: Ask[]
  /** Milliseconds that a piece takes from its first bytes on, smoothed. 0 = not known. */
  pieceMs: number
  /** The least that a question to which no offer is made took until its first bytes were here. Infinite: not known. */
  wayMs: number
  lastAnswerMs: number
  /** Pieces that it gave us; and those that were here already, without an offer. */
  answers: number
  repeats: number
  /** Pieces that it passed on in part, and then didn't get itself. */
  withdrawn: number
  strikes: number
  /**
   * Bytes of pieces that its connection had brought at the last look. Also the instant of their last change, and how many pieces had come
   * by then.
   */
  moved: number
  stillMs: number
  stillFrom: number
  /** How many pieces had come from anybody when it became overdue. */
  suspectFrom: number
  /** How often in a row others gave what it owed. */
  lates: number
  /** Overdue since this instant; 0 while it answers in time. */
  suspectMs: number
  /** How long it may be overdue then before it is replaced. */
  graceMs: number
  /** It said that it has nothing left for us. */
  drained: boolean
}

export function newParent<P>(id: P, pieces: number, announces: boolean, turn: number): PlanParent<P> {
  return {
    id,
    has: wordsFor(pieces),
    announces,
    turn,
    held: 0,
    banned: undefined,
    asks: [],
    pieceMs: 0,
    wayMs: Number.POSITIVE_INFINITY,
    lastAnswerMs: 0,
    answers: 0,
    repeats: 0,
    withdrawn: 0,
    strikes: 0,
    moved: 0,
    stillMs: 0,
    stillFrom: 0,
    suspectFrom: 0,
    lates: 0,
    suspectMs: 0,
    graceMs: 0,
    drained: false,
  }
}

const SMOOTHING = 0.3

/** Takes an ask out of the list and learns from the time that its answer took. */
export function noteAnswer<P>(parent: PlanParent<P>, ask: Ask, nowMs: number): void {
  const tookMs = Math.max(0.01, nowMs - Math.max(ask.sinceMs, parent.lastAnswerMs))
  parent.pieceMs = parent.pieceMs === 0 ? tookMs : parent.pieceMs + SMOOTHING * (tookMs - parent.pieceMs)
  parent.lastAnswerMs = nowMs
  parent.suspectMs = 0
  parent.lates = 0
}

/** Milliseconds until a piece asked of this parent now is expected. What was learnt fades towards the usual. */
export function expectedMs<P>(parent: PlanParent<P>, usualMs: number, nowMs: number): number {
  const queue = named(parent) + 1
  if (parent.pieceMs === 0) return queue * usualMs * 0.9
  const age = Math.min(1, (nowMs - parent.lastAnswerMs) / FADE_MS)
  return queue * (parent.pieceMs + age * (usualMs * 0.9 - parent.pieceMs))
}

const FADE_MS = 1_000

export function takeAsk<P>(parent: PlanParent<P>, piece: number): Ask | undefined {
  const at = parent.asks.findIndex((ask) => ask.piece === piece)
  return at < 0 ? undefined : parent.asks.splice(at, 1)[0]
}

/** Questions under way here that were asked by name. */
export function byName<P>(parent: PlanParent<P>): number {
  let count = 0
  for (const ask of parent.asks) if (!ask.any) count++
  return count
}

/** Questions under way here whose piece is known. */
export function named<P>(parent: PlanParent<P>): number {
  let count = 0
  for (const ask of parent.asks) if (ask.piece >= 0) count++
  return count
}
