/**
 * The child's policy: what to ask of which parent next. A state machine without I/O: events come in by method with the instant they
 * happened at, {@link Plan.decide} says what to do about them. Same events and same chance give the same answer.
 *
 * In a line ({@link PlanParent.turn}) one parent is asked for everything, and gives it in order, without offers. It is given up when others
 * get pieces and it doesn't.
 *
 * Else parents choose what they give: each is asked for "any" piece, one question at a time, and offers one. What is here or coming already
 * is declined, so that nothing comes twice. All parents hear what is coming, what is here, and what isn't coming after all, so that they
 * offer something else, or that again. Pieces that a reader waits for are asked for by name. So are, in the end, those that take longer
 * than usual, within a budget of waste. A parent that is late is routed round, then replaced.
 */
import { type Random, randomBelow } from '../../src/core/clock.ts'
import type { ReadonlyBitmap } from '../../src/core/task/bitmap.ts'
import { STEPS } from '../../src/core/task/task.ts'
import { clearBit, hasBit, setBit, setFrom, type Words, wordsFor } from './plan-bits.ts'
import { Doubt } from './plan-doubt.ts'
import {
  type Ask,
  byName,
  expectedMs,
  named,
  newAsk,
  newParent,
  noteAnswer,
  type PlanParent,
  takeAsk,
} from './plan-parent.ts'

export interface PlanOptions {
  readonly pieces: number
  readonly pieceBytes: number
  /** Pieces that may be on their way at once, by count and by bytes; never below one. This bounds memory. */
  readonly maxInFlight: number
  readonly inFlightBytes: number
  /** Questions for "any" under way at one parent; more where there are few parents. */
  readonly perParent: number
  /** Named questions for readers under way at once: more would take the mixing out of the swarm. */
  readonly maxNamed: number
  /** The last part of the pieces that may be asked twice, and the most that may come twice, both of all pieces. */
  readonly endgame: number
  readonly waste: number
  /** An answer that began is late after `lateFactor` times the usual time, but not before `lateMs`. */
  readonly lateFactor: number
  readonly lateMs: number
}

export const PLAN_DEFAULTS = {
  maxInFlight: 16,
  inFlightBytes: 32 * 1024 * 1024,
  perParent: 1,
  maxNamed: 4,
  endgame: 0.02,
  waste: 0.01,
  lateFactor: 4,
  lateMs: 250,
} as const

/**
 * A waiting parent is routed round after so long without a step, and replaced so much later. By then the host that keeps all of them
 * waiting was found by the one behind it.
 */
const WAITS_MS = 1000
const WAITED_MS = 3000
/**
 * A parent that withdrew more than so many pieces, and than this part of what it gave, is asked for whole ones only. It isn't blamed: all behind
 * one that withdraws have to do so, too.
 */
const WITHDRAWN_LEAST = 2
const WITHDRAWN_PART = 0.1
/** Questions for "any" under way where parents are few: enough to hide the way there and back. */
const LEAST_ANY = 4
/** In a line half of them do where a piece takes so long: what is under way when another parent is asked may come twice. */
const LONG_PIECE_MS = 100
/** What comes here in so long may be on its way at once; never less than so many pieces. */
const AHEAD_MS = 600
const LEAST_AHEAD = 6
const MOST_AHEAD = 8
const PACE_SMOOTHING = 0.1
/** A parent is late if no byte came from it while others gave so many pieces. So is one whose piece takes as long as many more. */
const LATE_PIECES = 4
const CRAWL_PIECES = 32
/** A late parent is replaced after so many pieces of others; one that still moves after more. */
const REPLACE_PIECES = 16
const REPLACE_CRAWL_PIECES = 64
/** So often in a row a parent may leave what it owes to others. */
const MOST_LATES = 3
/** When nothing came from anybody for so long, what is under way may be given by others; how often that time doubles. */
const SILENCE_MS = 3000
const MOST_SILENCES = 4
/** Named questions under way at one parent. */
const NAMED_PER_PARENT = 2
/** Parents that say so often that they lack what they announced are replaced. */
const ABSENT_STRIKES = 8
const MAX_DEMANDS = 64
/** How long parents may wait for a child's words, in parts of the usual time of an answer, and in bounds. */
const WORD_PART = 0.25
/**
 * That a piece is here matters less than that it comes: it leaves with what is said of the next. Where pieces come fast it can't wait for
 * long. A parent counts a piece as under way until the child's report, and stops at eight such pieces.
 */
const FIRST_HERE_MS = 20
const LEAST_HERE_MS = 2
const MAX_HERE_MS = 50
/** Where a quarter of the usual time is less than this, *coming* goes to all parents at once: they would offer the piece first. */
const LATE_COMING_MS = 20
/** The longest that words wait for company where pieces come slowly: they leave with what is said of the next. */
const MAX_WORD_MS = 250

/** Parents that aren't asked hear late what is here and coming: with the first question, or after this. */
const UNASKED_WORD_MS = 1000
/** How long, at most, the one parent of a line waits to hear that a piece is here. */
const SURE_WORD_MS = 200
/** Questions that are open beside a parent that is doubted. */
const BESIDE = 2
/** How long one of a later turn isn't asked while that of the first may still open its channel: both would give the same. */
const OPENING_MS = 250
/**
 * Pieces that a parent may send without an offer although they are here, as a share of what it gave. Pieces that may have been on their way
 * come on top.
 */
const REPEATS_PART = 0.25
/** A reader in a line has what is next anyway: by name it is asked for pieces so far ahead. */
const NEXT_PIECES = 8

/** Parents of later ranks are only known of, until there is nobody else: the holder of the channels opens none to them before. */
export const LAST_OPEN_TURN = 2

/** Why a question failed, as the plan cares. */
export type FailReason =
  | 'corrupt'
  | 'short'
  | 'absent'
  | 'withdrawn'
  | 'refused'
  | 'unreachable'
  | 'stalled'
  | 'cancelled'

/** Why a parent is replaced. */
export type ReplaceReason = Exclude<FailReason, 'withdrawn'> | 'slow'

export type Action<P> =
  | { readonly kind: 'ask'; readonly parent: P; readonly piece: number }
  /** `sure`: whatever comes is taken, without an offer; `early`: it may be what is still coming to the parent. */
  /** `ahead`: how many pieces may be on their way to us from all parents. */
  | {
      readonly kind: 'askAny'
      readonly parent: P
      readonly sure: boolean
      readonly early: boolean
      readonly ahead: number
    }
  /** Tell all parents that a piece is on its way to us, within {@link Plan.comingMs}, or isn't after all; `from` knows it already. */
  | { readonly kind: 'coming'; readonly piece: number; readonly from?: P }
  | { readonly kind: 'lost'; readonly piece: number }
  /** Abort this question; it counts as over, no event need follow. */
  | { readonly kind: 'cancel'; readonly parent: P; readonly piece: number }
  /** Close the channel and report the parent to the supernode, with the piece that it sent wrongly; the plan has forgotten it already. */
  | { readonly kind: 'replace'; readonly parent: P; readonly reason: ReplaceReason; readonly piece?: number }

interface Demand {
  readonly from: number
  readonly to: number
  readonly priority: number
}

/** The plan of one task. `P` names a parent: a peer id, or a number in the simulator. */
export class Plan<P> {
  readonly #options: PlanOptions
  readonly #random: Random
  readonly #parents = new Map<P, PlanParent<P>>()
  readonly #order: PlanParent<P>[] = []
  readonly #have: Words
  /** Pieces whose digest is known: only these are asked for by name. */
  readonly #known: Words
  /** The parents that a piece under way is expected from: it was asked for by name, or its first bytes are here. */
  readonly #askedOf = new Map<number, PlanParent<P>[]>()
  readonly #demands: Demand[] = []
  readonly #pending: Action<P>[] = []
  /** The turn whose parents are asked; 0 while none can be. */
  #turn = 0
  /** In a mesh: whether each parent has its questions for "any", but perhaps the one that took an offer since. */
  #settled = false
  #lacking: PlanParent<P> | undefined
  /** Parents of a line. */
  #lined = 0
  /** It is one parent, which gives whatever it chooses. */
  #sure = false
  /** In a line: since when there is a parent, but none of the first turn; long ago once that was there. */
  #openingMs: number | undefined
  /** In a line: whether the parent that is asked is slow. */
  readonly #doubt = new Doubt<P>()
  #haveCount = 0
  /** The first piece that lacks. */
  #next = 0
  /** Questions to which no piece was offered yet. */
  #anyInFlight = 0
  /** Named questions for readers. */
  #named = 0
  #wasted = 0
  /** Offers of what was here or coming already. */
  #declined = 0
  /** Smoothed time of an answer over all parents. */
  #usualMs = 0
  /** Smoothed time from one piece to the next, over all parents; when the last came, and how many have. */
  #paceMs = 0
  #arrivedMs = 0
  #arrivals = 0
  /** Since when nothing comes although something is under way. */
  #silentMs = 0
  /** How often all of it was given up since. */
  #silences = 0

  constructor(options: PlanOptions, random: Random) {
    this.#options = options
    this.#random = random
    this.#have = wordsFor(options.pieces)
    this.#known = wordsFor(options.pieces)
  }

  get done(): boolean {
    return this.#haveCount === this.#options.pieces
  }

  get haveCount(): number {
    return this.#haveCount
  }

  get parents(): number {
    return this.#order.length
  }

  get inFlight(): number {
    return this.#askedOf.size + this.#anyInFlight
  }

  /** How long this parent may wait to hear that a piece is here; shorter where pieces come fast. */
  hereMs(id: P): number {
    if (this.#unasked(id)) return UNASKED_WORD_MS
    // it leaves with the next question: such a parent gives nothing twice, and counts only what is on its way
    if (this.#sure) return Math.min(SURE_WORD_MS, Math.max(MAX_HERE_MS, 2 * this.#usualMs))
    if (this.#paceMs === 0) return FIRST_HERE_MS
    return Math.min(MAX_WORD_MS, Math.max(LEAST_HERE_MS, this.#paceMs))
  }

  /**
   * How long this parent may wait to hear that a piece is on its way to us. A parent that has it, or a seed, may offer it at any moment, so
   * it is notified at once. Another has to get it first, which takes as long as a piece does.
   */
  comingMs(id: P, piece: number): number {
    const soon = this.#usualMs * WORD_PART < LATE_COMING_MS
    if (soon && this.#lined === 0) return 0
    if (this.#unasked(id)) return UNASKED_WORD_MS
    const parent = this.#parents.get(id)
    if (parent && (!parent.announces || hasBit(parent.has, piece))) return 0
    return soon ? 0 : Math.min(MAX_WORD_MS, Math.max(LATE_COMING_MS, this.#paceMs))
  }

  /** Pieces on their way: a parent gets them when its channel opens. */
  get underWay(): Iterable<number> {
    return this.#askedOf.keys()
  }

  /** Whether it is one of {@link underWay}. */
  isUnderWay(piece: number): boolean {
    return this.#askedOf.has(piece)
  }

  /** Pieces that came although they were here already. */
  get wasted(): number {
    return this.#wasted
  }

  /** Pieces that are here, by download or from before. */
  have(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) this.#gained(piece)
  }

  pieceKnown(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) setBit(this.#known, piece)
  }

  /** A channel is open to a parent. A seed announces nothing. Joining twice is a fresh start. */
  parentJoined(id: P, haves: ReadonlyBitmap | undefined, turn = 0): void {
    this.parentLeft(id)
    const parent = newParent(id, this.#options.pieces, haves !== undefined, turn)
    this.#parents.set(id, parent)
    this.#order.push(parent)
    this.#settled = false
    if (turn > 0) this.#lined++
    if (!haves) return
    setFrom(parent.has, haves)
    parent.held = haves.count
  }

  /** It is asked at another turn from now on. */
  parentTurn(id: P, turn: number): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    this.#lined += Number(turn > 0) - Number(parent.turn > 0)
    parent.turn = turn
    this.#settled = false
  }

  /** The parent got more. True when {@link decide} has something to do about it now. */
  parentHaves(id: P, from: number, count: number): boolean {
    const parent = this.#parents.get(id)
    if (!parent) return false
    for (let piece = from; piece < from + count; piece++) this.#parentHas(parent, piece)
    return this.#demands.length > 0
  }

  /** {@link parentHaves} of pieces that needn't follow each other. */
  parentHasThese(id: P, pieces: readonly number[]): boolean {
    const parent = this.#parents.get(id)
    if (!parent) return false
    for (const piece of pieces) this.#parentHas(parent, piece)
    return this.#demands.length > 0
  }

  #parentHas(parent: PlanParent<P>, piece: number): void {
    if (!parent.banned?.has(piece) && setBit(parent.has, piece)) parent.held++
  }

  /**
   * A parent offers a piece of its choice. True: it shall send it; call {@link decide} then, and {@link pieceStarted} at its
   * first bytes. False: that piece is here or coming already, or enough is; the parent will choose another. One that comes without an
   * offer comes all the same, and {@link pieceArrived} holds it to the parent's account.
   */
  pieceOffered(id: P, piece: number, nowMs: number): boolean {
    const parent = this.#parents.get(id)
    const ask = parent?.asks.find((one) => one.piece < 0)
    if (!parent || !ask) return false
    const asked = this.#askedOf.get(piece) ?? []
    const better = ask.sure ? asked.includes(parent) : asked.some((other) => other.suspectMs === 0) || this.#full
    if (better || hasBit(this.#have, piece)) {
      this.#declined++
      return false
    }
    if (ask.sure) parent.wayMs = Math.min(parent.wayMs, nowMs - ask.sinceMs)
    ask.piece = piece
    ask.sinceMs = nowMs
    this.#lacks(parent)
    this.#anyInFlight--
    this.#askedOf.set(piece, [...asked, parent])
    this.#pending.push(ask.sure ? { kind: 'coming', piece, from: id } : { kind: 'coming', piece })
    return true
  }

  /** The first bytes of an answer are here. */
  pieceStarted(id: P, piece: number, nowMs: number): void {
    const ask = this.#parents.get(id)?.asks.find((one) => one.piece === piece)
    if (!ask || ask.started) return
    ask.started = true
    ask.sinceMs = nowMs
  }

  /**
   * More of an answer is here: so many whole steps. `waits`: the parent waits for the rest itself, and isn't late as soon as one that has
   * it. It has to bring a step at a time, though: with less nobody behind us gets further, and they would count us as late.
   */
  pieceWaits(id: P, piece: number, { steps, waits }: { steps: number; waits: boolean }, nowMs: number): void {
    const ask = this.#parents.get(id)?.asks.find((one) => one.piece === piece)
    if (!ask) return
    const reached = waits ? steps : STEPS
    if (reached > ask.reached) {
      if (waits || ask.waits) ask.movedMs = nowMs
      ask.reached = reached
    }
    ask.waits = waits
  }

  /** The channel ended: what was asked there may come from elsewhere. */
  parentLeft(id: P): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    this.#parents.delete(id)
    this.#order.splice(this.#order.indexOf(parent), 1)
    this.#settled = false
    if (parent.turn > 0) this.#lined--
    for (const ask of parent.asks.splice(0)) this.#unask(parent, ask)
  }

  /**
   * A verified piece came from this parent. Questions for the same piece elsewhere come out of the next {@link decide} as
   * cancels.
   */
  pieceArrived(id: P, piece: number, nowMs: number): void {
    const parent = this.#parents.get(id)
    const ask = parent && (takeAsk(parent, piece) ?? takeAsk(parent, -1))
    const fresh = this.#gained(piece)
    if (parent && ask) {
      this.#unask(parent, ask)
      if (parent.suspectMs > 0) this.#settled = false
      else if (ask.piece < 0) this.#lacks(parent)
      const tookMs = nowMs - ask.sinceMs
      this.#usualMs = this.#usualMs === 0 ? tookMs : this.#usualMs + 0.1 * (tookMs - this.#usualMs)
      noteAnswer(parent, ask, nowMs)
      if (fresh) parent.answers++
      if (setBit(parent.has, piece)) parent.held++
    }
    this.#paced(nowMs)
    if (!fresh) this.#wasted++
    if (!fresh && parent && ask?.sure) this.#repeats(parent)
    for (const other of [...(this.#askedOf.get(piece) ?? [])]) this.#cancel(other, piece)
  }

  #paced(nowMs: number): void {
    const apartMs = nowMs - this.#arrivedMs
    if (this.#arrivals > 0)
      this.#paceMs =
        this.#paceMs === 0 ? Math.max(0.01, apartMs) : this.#paceMs + PACE_SMOOTHING * (apartMs - this.#paceMs)
    this.#arrivedMs = nowMs
    this.#silentMs = nowMs
    this.#silences = 0
    this.#arrivals++
  }

  /** A question failed. `piece` is -1 for the parent's choice that wasn't named yet. What the parent then deserves comes out of {@link decide}. */
  pieceFailed(id: P, piece: number, reason: FailReason): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    this.#settled = false
    const ask = takeAsk(parent, piece)
    if (ask) this.#unask(parent, ask)
    if (reason === 'cancelled') return
    if (reason === 'withdrawn') {
      parent.withdrawn++
      return
    }
    if (reason === 'absent') {
      if (piece >= 0) clearBit(parent.has, piece)
      if (++parent.strikes >= ABSENT_STRIKES) this.#replace(parent, reason)
      return
    }
    if (piece >= 0) this.#ban(parent, piece)
    if (reason === 'short' && ++parent.strikes < 2) return
    const wrong = piece >= 0 && (reason === 'corrupt' || reason === 'short')
    this.#replace(parent, reason, wrong ? { piece } : {})
  }

  /** The parent has nothing left for us; it is asked no more until it opens again. */
  parentDrained(id: P): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    const ask = takeAsk(parent, -1)
    if (ask) this.#unask(parent, ask)
    parent.drained = true
    this.#settled = false
  }

  /** A reader waits for pieces [from, to): they come first, in order, the higher `priority` before the lower. */
  demand(from: number, to: number, priority: number): void {
    this.#demands.push({ from, to, priority })
    this.#demands.sort((a, b) => b.priority - a.priority)
    if (this.#demands.length > MAX_DEMANDS) this.#demands.pop()
  }

  /** The reader is gone or has moved on. */
  undemand(from: number, to: number): void {
    const at = this.#demands.findIndex((demand) => demand.from === from && demand.to === to)
    if (at >= 0) this.#demands.splice(at, 1)
  }

  /**
   * Looks for late parents: call it some times a second, then {@link decide}. `movedBytes` returns how many bytes of pieces have come from
   * a parent's connection so far. A parent is late by what others give meanwhile, never by the clock alone. On a slow or lossy link all
   * wait, and what is being sent must not be asked for again.
   */
  tick(nowMs: number, movedBytes?: (id: P) => number): void {
    if (this.#usualMs === 0) return
    const lateMs = this.#lateMs
    for (const parent of [...this.#order]) {
      if (parent.turn > 0) this.#tickInLine(parent, lateMs, nowMs)
      else this.#tickInMesh(parent, lateMs, movedBytes?.(parent.id), nowMs)
    }
    this.#endSilence(lateMs, nowMs)
  }

  #tickInMesh(parent: PlanParent<P>, lateMs: number, movedBytes: number | undefined, nowMs: number): void {
    const owed = parent.asks.find((ask) => ask.piece >= 0)
    const moved = movedBytes ?? parent.answers
    if (!owed || moved !== parent.moved) {
      parent.moved = moved
      parent.stillMs = nowMs
      parent.stillFrom = this.#arrivals
    }
    if (!owed) {
      // others gave what it owed: it gets another chance, but not one after the other
      if (parent.suspectMs === 0) return
      parent.suspectMs = 0
      this.#settled = false
      if (++parent.lates >= MOST_LATES) this.#replace(parent, 'stalled')
      return
    }
    const standsStill =
      nowMs - Math.max(parent.stillMs, owed.sinceMs) >= lateMs && this.#arrivals - parent.stillFrom >= LATE_PIECES
    if (owed.arrivals < 0) owed.arrivals = this.#arrivals
    const crawls = nowMs - owed.sinceMs >= lateMs && this.#arrivals - owed.arrivals >= CRAWL_PIECES
    if (parent.suspectMs === 0) {
      if (!standsStill && !crawls) return
      parent.suspectMs = nowMs
      parent.suspectFrom = this.#arrivals
      this.#settled = false
      this.#routeRound(parent)
      return
    }
    const grace = standsStill ? REPLACE_PIECES : REPLACE_CRAWL_PIECES
    if (nowMs - parent.suspectMs >= lateMs && this.#arrivals - parent.suspectFrom >= grace)
      this.#replace(parent, parent.answers > 0 ? 'slow' : 'stalled')
  }

  /** What a parent owes may come from others, and the first answer wins. */
  #routeRound({ asks }: PlanParent<P>): void {
    for (const { piece } of asks)
      if (piece >= 0 && !hasBit(this.#have, piece)) this.#pending.push({ kind: 'lost', piece })
  }

  /**
   * Nothing comes from anybody although pieces are under way. Other parents may have these pieces, and be able to give them. They are
   * notified, each time after twice as long. Nobody is blamed, and what still comes is taken.
   */
  #endSilence(lateMs: number, nowMs: number): void {
    if (this.#askedOf.size === 0 || this.#silentMs === 0) {
      this.#silentMs = nowMs
      return
    }
    if (nowMs - this.#silentMs < Math.max(SILENCE_MS, lateMs) * 2 ** this.#silences) return
    this.#silentMs = nowMs
    this.#silences = Math.min(this.#silences + 1, MOST_SILENCES)
    for (const parent of this.#order) {
      if (!parent.asks.some(({ piece }) => piece >= 0) || parent.suspectMs > 0) continue
      parent.suspectMs = nowMs
      parent.suspectFrom = this.#arrivals
      this.#routeRound(parent)
    }
    this.#settled = false
  }

  #tickInLine(parent: PlanParent<P>, lateMs: number, nowMs: number): void {
    const oldest = parent.asks.find((ask) => ask.piece >= 0)
    if (!oldest) {
      // what it owed came from others: in a line these still give in its place
      if (parent.suspectMs > 0 && nowMs - parent.suspectMs >= parent.graceMs)
        this.#replace(parent, parent.answers > 0 ? 'slow' : 'stalled')
      return
    }
    const { waits } = oldest
    const waitedMs = nowMs - Math.max(oldest.sinceMs, oldest.movedMs, parent.lastAnswerMs)
    if (waitedMs < (waits ? Math.max(WAITS_MS, 3 * lateMs) : lateMs)) return
    if (parent.suspectMs === 0) {
      parent.suspectMs = nowMs
      parent.graceMs = waits ? Math.max(WAITED_MS, lateMs) : lateMs
      this.#settled = false
      this.#routeRound(parent)
      return
    }
    if (nowMs - parent.suspectMs >= parent.graceMs) this.#replace(parent, parent.answers > 0 ? 'slow' : 'stalled')
  }

  /** What to do now. Each action is taken as done: the plan counts its questions as under way from here on. */
  decide(nowMs: number): Action<P>[] {
    if (this.#turn > 0 && !this.done) this.#compare(nowMs)
    const actions = this.#pending.splice(0)
    if (this.done) return actions
    this.#askAny(actions, nowMs)
    if (this.#demands.length > 0) this.#askForReaders(actions, nowMs)
    this.#endgame(actions, nowMs)
    return actions
  }

  /** The plan as text for people: one line for the task, one per parent. */
  describe(): string {
    const lines = [
      `pieces ${this.#haveCount}/${this.#options.pieces} coming ${this.#askedOf.size} asked ${this.inFlight} declined ${this.#declined} wasted ${this.#wasted}`,
    ]
    for (const parent of this.#order) {
      const state = parent.suspectMs > 0 ? ' late' : ''
      lines.push(
        `parent ${String(parent.id)} asked ${parent.asks.map((ask) => ask.piece).join(',') || '-'} ${Math.round(parent.pieceMs)} ms${state}`,
      )
    }
    return lines.join('\n')
  }

  /** An answer that takes longer is late, if nothing else explains it. */
  get #lateMs(): number {
    return Math.max(this.#options.lateMs, this.#options.lateFactor * this.#usualMs)
  }

  /** As many pieces are on their way as may be. */
  get #full(): boolean {
    return this.#askedOf.size >= this.#mostInFlight
  }

  get #mostInFlight(): number {
    const { maxInFlight, inFlightBytes, pieceBytes } = this.#options
    return Math.max(1, Math.min(maxInFlight, Math.floor(inFlightBytes / pieceBytes)))
  }

  /** How many pieces parents should have on their way here: what comes in {@link AHEAD_MS}. More would only wait in queues on the way. */
  get #ahead(): number {
    const ahead = this.#paceMs === 0 ? MOST_AHEAD : Math.ceil(AHEAD_MS / this.#paceMs)
    return Math.min(this.#mostInFlight, MOST_AHEAD, Math.max(LEAST_AHEAD, ahead))
  }

  /** Whether this parent's turn hasn't come. */
  #unasked(id: P): boolean {
    const turn = this.#parents.get(id)?.turn ?? 0
    return turn > this.#turn
  }

  /** How many questions hide the way to a parent and back, once it is known how long that is. */
  #hiding({ wayMs }: PlanParent<P>): number {
    if (this.#usualMs === 0 || wayMs === Number.POSITIVE_INFINITY) return 0
    return Math.min(this.#options.maxInFlight, Math.floor(wayMs / this.#usualMs) + 1)
  }

  /** Whether the parent of the first turn may still be opening its channel. */
  #opening(turn: number, nowMs: number): boolean {
    if (turn === Number.POSITIVE_INFINITY) return false
    if (turn <= 1) this.#openingMs = Number.NEGATIVE_INFINITY
    this.#openingMs ??= nowMs
    return nowMs - this.#openingMs < OPENING_MS
  }

  /** A parent may lack a question for "any". */
  #lacks(parent: PlanParent<P>): void {
    if (this.#lacking !== undefined && this.#lacking !== parent) this.#settled = false
    this.#lacking = parent
  }

  /** Asks each parent for "any" whose turn it is. */
  #askAny(actions: Action<P>[], nowMs: number): void {
    const lacking = this.#lacking
    this.#lacking = undefined
    if (!this.#settled) this.#askAll(actions, nowMs)
    else if (lacking && gives(lacking) && lacking.turn === 0)
      this.#askUpTo(actions, lacking, { most: this.#least(LEAST_ANY, this.#order.length), sure: false }, nowMs)
  }

  /** Questions for "any" at each of so many parents. */
  #least(few: number, parents: number): number {
    return Math.max(this.#options.perParent, Math.ceil(few / parents))
  }

  /** Looks at all parents, of which a mesh has some 36: not at each word of one. */
  #askAll(actions: Action<P>[], nowMs: number): void {
    let turn = Number.POSITIVE_INFINITY
    let able = 0
    for (const parent of this.#order) {
      if (!gives(parent) || parent.turn > turn) continue
      able = parent.turn < turn ? 1 : able + 1
      turn = parent.turn
    }
    if (this.#opening(turn, nowMs)) return
    this.#turn = able === 0 ? 0 : turn
    const sure = turn > 0 && able === 1
    this.#sure = sure
    const few = turn > 0 && this.#usualMs >= LONG_PIECE_MS ? LEAST_ANY / 2 : LEAST_ANY
    const least = this.#least(few, turn === 0 ? this.#order.length : able)
    for (const parent of this.#order) {
      if (!gives(parent) || parent.turn !== turn) continue
      // nothing that comes without an offer can be declined
      const most = sure
        ? Math.min(Math.max(least, this.#hiding(parent)), this.#mostInFlight - this.#askedOf.size)
        : least
      this.#askUpTo(actions, parent, { most, sure }, nowMs)
    }
    this.#settled = turn === 0 || able === 0
  }

  #askUpTo(
    actions: Action<P>[],
    parent: PlanParent<P>,
    { most, sure }: { most: number; sure: boolean },
    nowMs: number,
  ): void {
    for (let open = parent.asks.length - named(parent); open < most; open++)
      this.#askOneAny(actions, parent, sure, nowMs)
  }

  #askOneAny(actions: Action<P>[], parent: PlanParent<P>, sure: boolean, nowMs: number): void {
    parent.asks.push(newAsk({ piece: -1, any: true, sure }, nowMs))
    this.#anyInFlight++
    actions.push({ kind: 'askAny', parent: parent.id, sure, early: sure && !withdraws(parent), ahead: this.#ahead })
  }

  /** In a line, asks others beside the parent that is doubted, or in its place. */
  #compare(nowMs: number): void {
    const main = this.#order.find(({ turn }) => turn === this.#turn)
    if (!main?.announces) return
    const { beside, slow } = this.#doubt.look(main, this.#order, this.#haveCount, nowMs)
    for (const other of beside) this.#askBeside(other, nowMs)
    if (slow) this.#replace(main, 'slow')
  }

  /** Asks a parent for what the one that is asked for everything would give last; a seed, which gives what nobody has, for any. */
  #askBeside(parent: PlanParent<P>, nowMs: number): void {
    for (let open = parent.asks.length; open < BESIDE; open++) {
      if (!parent.announces) {
        this.#askOneAny(this.#pending, parent, false, nowMs)
        continue
      }
      const piece = this.#lastToAsk(parent)
      if (piece === undefined) return
      this.#ask(this.#pending, parent, piece, nowMs)
      this.#pending.push({ kind: 'coming', piece })
    }
  }

  /** The last piece that may be asked of a parent by name. */
  #lastToAsk(parent: PlanParent<P>): number | undefined {
    for (let piece = this.#options.pieces - 1; piece >= this.#next; piece--) {
      if (!hasBit(parent.has, piece) || !hasBit(this.#known, piece)) continue
      if (!hasBit(this.#have, piece) && !this.#askedOf.has(piece)) return piece
    }
    return undefined
  }

  /** Asks by name for what readers wait for, of the holders that are expected to answer first. */
  #askForReaders(actions: Action<P>[], nowMs: number): void {
    for (const { from, to } of this.#demands) {
      for (let piece = from; piece < to; piece++) {
        if (this.#named >= this.#options.maxNamed) return
        if (this.#turn > 0 && piece < this.#next + NEXT_PIECES) continue
        if (hasBit(this.#have, piece) || !hasBit(this.#known, piece)) continue
        const prompt = this.#askedOf.get(piece)?.filter((parent) => parent.suspectMs === 0) ?? []
        const [only] = prompt
        if (prompt.length > 1 || (only && !this.#overdue(only, piece, nowMs))) continue
        const parent = this.#soonest(piece, nowMs, only)
        if (!parent) continue
        this.#ask(actions, parent, piece, nowMs)
        actions.push({ kind: 'coming', piece })
      }
    }
  }

  /** A reader doesn't wait until others gave so much that a parent is late: it asks a second one. */
  #overdue(parent: PlanParent<P>, piece: number, nowMs: number): boolean {
    const ask = parent.asks.find((one) => one.piece === piece)
    return ask !== undefined && this.#usualMs > 0 && nowMs - ask.sinceMs >= this.#lateMs
  }

  /** The holder of this piece that is expected to answer first, ties by chance. */
  #soonest(piece: number, nowMs: number, but?: PlanParent<P>): PlanParent<P> | undefined {
    let best: PlanParent<P> | undefined
    let bestMs = Number.POSITIVE_INFINITY
    let ties = 0
    for (const parent of this.#order) {
      if (!hasBit(parent.has, piece) || parent === but) continue
      if (byName(parent) >= NAMED_PER_PARENT || parent.suspectMs > 0) continue
      const ms = expectedMs(parent, this.#usualMs, nowMs)
      if (ms < bestMs) {
        best = parent
        bestMs = ms
        ties = 1
      } else if (ms === bestMs && randomBelow(this.#random, ++ties) === 0) best = parent
    }
    return best
  }

  #ask(actions: Action<P>[], parent: PlanParent<P>, piece: number, nowMs: number): void {
    parent.asks.push(newAsk({ piece, any: false, sure: false }, nowMs))
    this.#named++
    const asked = this.#askedOf.get(piece)
    if (asked) asked.push(parent)
    else this.#askedOf.set(piece, [parent])
    actions.push({ kind: 'ask', parent: parent.id, piece })
  }

  /** With little left, asks a second parent for what takes longer than usual. */
  #endgame(actions: Action<P>[], nowMs: number): void {
    const { pieces, endgame, waste } = this.#options
    // in a line the next piece leaves when this one is out: a second copy would only keep another host waiting
    if (this.#turn > 0 || pieces - this.#haveCount > Math.max(2, Math.ceil(pieces * endgame))) return
    const patienceMs = this.#usualMs > 0 ? this.#usualMs : this.#options.lateMs
    let budget = Math.max(1, Math.floor(pieces * waste)) - this.#wasted
    for (const asked of this.#askedOf.values()) if (asked.length > 1) budget--
    for (const parent of this.#order) {
      for (const { piece, sinceMs } of [...parent.asks]) {
        if (budget <= 0) return
        if (piece < 0 || (this.#askedOf.get(piece)?.length ?? 0) > 1 || nowMs - sinceMs < patienceMs) continue
        const other = this.#soonest(piece, nowMs, parent)
        if (!other || expectedMs(other, this.#usualMs, nowMs) > expectedMs(parent, this.#usualMs, nowMs)) continue
        this.#ask(actions, other, piece, nowMs)
        budget--
      }
    }
  }

  #gained(piece: number): boolean {
    if (!setBit(this.#have, piece)) return false
    this.#haveCount++
    while (this.#next < this.#options.pieces && hasBit(this.#have, this.#next)) this.#next++
    return true
  }

  #ban(parent: PlanParent<P>, piece: number): void {
    parent.banned ??= new Set()
    parent.banned.add(piece)
    clearBit(parent.has, piece)
  }

  /** A question is over. When it was the last for its piece, that isn't coming any more. */
  #unask(parent: PlanParent<P>, ask: Ask): void {
    if (!ask.any) this.#named--
    if (ask.piece < 0) {
      this.#anyInFlight--
      return
    }
    const asked = this.#askedOf.get(ask.piece)
    const at = asked?.indexOf(parent) ?? -1
    if (!asked || at < 0) return
    asked.splice(at, 1)
    if (asked.length > 0) return
    this.#askedOf.delete(ask.piece)
    if (!hasBit(this.#have, ask.piece)) this.#pending.push({ kind: 'lost', piece: ask.piece })
  }

  #cancel(parent: PlanParent<P>, piece: number): void {
    const ask = takeAsk(parent, piece)
    if (!ask) return
    this.#unask(parent, ask)
    this.#pending.push({ kind: 'cancel', parent: parent.id, piece })
  }

  /** A parent sent what was here. A few may have been under way when another brought them. */
  #repeats(parent: PlanParent<P>): void {
    const most = this.#options.maxInFlight + parent.answers * REPEATS_PART
    if (parent.turn <= this.#turn && ++parent.repeats > most) this.#replace(parent, 'slow')
  }

  #replace(parent: PlanParent<P>, reason: ReplaceReason, about: { piece?: number } = {}): void {
    this.parentLeft(parent.id)
    this.#pending.push({ kind: 'replace', parent: parent.id, reason, ...about })
  }
}

/** It has withdrawn too much to be given anything by it that it hasn't whole. */
function withdraws({ withdrawn, answers }: PlanParent<unknown>): boolean {
  return withdrawn > WITHDRAWN_LEAST + answers * WITHDRAWN_PART
}

/** It has something left and isn't late. */
function gives({ drained, suspectMs }: PlanParent<unknown>): boolean {
  return !drained && suspectMs === 0
}
