/**
 * The child's policy: which piece to ask of which parent next. A state machine without I/O: events come in by method with the
 * instant they happened at, {@link Plan.decide} says what to do about them. Same events and same chance give the same answer.
 *
 * Parents that choose are asked for "any" piece, one question each, and hear what is coming and what is here; pieces that a
 * reader waits for, and those that got lost or late on their way, are asked for by name.
 *
 * Of parents that don't choose: a bounded number of questions under way, sized by bandwidth × delay; the parent that is
 * expected to answer soonest, and of what it has the piece with the fewest holders; at the end the last pieces are asked twice
 * within a waste budget. A parent that is late against the others is routed round, then replaced.
 */
import { type Random, randomBelow } from '../../src/base/clock.ts'
import type { ReadonlyBitmap } from '../../src/task/bitmap.ts'
import { clearBit, hasBit, lowestBit, setBit, setFrom, type Words, wordsFor } from './plan-bits.ts'
import { type Ask, expectedMs, named, newParent, noteAnswer, type PlanParent, takeAsk } from './plan-parent.ts'

export interface PlanOptions {
  readonly pieces: number
  readonly pieceBytes: number
  /** Fewest and most questions under way; between them 'depth' more than bandwidth × delay asks for. */
  readonly minInFlight: number
  readonly maxInFlight: number
  readonly depth: number
  /** Most bytes under way; never below one piece. */
  readonly inFlightBytes: number
  /** Questions under way at one normal parent; grows when there are few parents. */
  readonly perParent: number
  /** Questions for "any" under way at one parent that chooses; more when there are fewer than four of those. */
  readonly perSeed: number
  /** The last part of the pieces that may be asked twice, and the most that may come twice, both of all pieces. */
  readonly endgame: number
  readonly waste: number
  /** A question is overdue after `lateFactor` times the usual answer time, but not before `lateMs`. */
  readonly lateFactor: number
  readonly lateMs: number
}

export const PLAN_DEFAULTS = {
  minInFlight: 4,
  maxInFlight: 128,
  depth: 16,
  inFlightBytes: 64 * 1024 * 1024,
  perParent: 2,
  perSeed: 1,
  endgame: 0.02,
  waste: 0.01,
  lateFactor: 4,
  lateMs: 250,
} as const

/** Questions for "any" under way where few parents choose: enough to hide the way there and back. */
const LEAST_ANY = 4

/** Why a question failed, as the plan cares. */
export type FailReason = 'corrupt' | 'short' | 'absent' | 'refused' | 'unreachable' | 'stalled' | 'cancelled'

export type Action<P> =
  | { readonly kind: 'ask'; readonly parent: P; readonly piece: number }
  | { readonly kind: 'askAny'; readonly parent: P }
  /** Abort this question; it counts as over, no event need follow. */
  | { readonly kind: 'cancel'; readonly parent: P; readonly piece: number }
  /** Close the channel and report the parent to the supernode; the plan has forgotten it already. */
  | { readonly kind: 'replace'; readonly parent: P; readonly reason: FailReason | 'slow' }

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
  /** Lacking, with a known digest, and not asked for: what may be asked. */
  readonly #want: Words
  readonly #have: Words
  readonly #known: Words
  readonly #holders: Uint16Array
  /** The parents that were asked, for each piece under way. */
  readonly #askedOf = new Map<number, PlanParent<P>[]>()
  readonly #demands: Demand[] = []
  /** Pieces that were on their way and got lost or late. The parents that choose think we have them: they are asked for by name. */
  readonly #orphans = new Set<number>()
  readonly #pending: Action<P>[] = []
  #haveCount = 0
  /** Questions that wait for a seed's choice. */
  #anyInFlight = 0
  /** Parents that choose. */
  #choosers = 0
  #wasted = 0
  /** Smoothed time of an answer over all parents, and the shortest seen lately. */
  #usualMs = 0
  #bestMs = 0
  #rateBytesPerMs = 0
  #rateSinceMs = -1
  #rateBytes = 0

  constructor(options: PlanOptions, random: Random) {
    this.#options = options
    this.#random = random
    this.#want = wordsFor(options.pieces)
    this.#have = wordsFor(options.pieces)
    this.#known = wordsFor(options.pieces)
    this.#holders = new Uint16Array(options.pieces)
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

  /** Pieces on their way: a parent that chooses hears of them when its channel opens. */
  get underWay(): Iterable<number> {
    return this.#askedOf.keys()
  }

  /** Pieces that came although they were here already. */
  get wasted(): number {
    return this.#wasted
  }

  /** Bytes per second that verified pieces arrive at, smoothed; 0 at first. */
  get rateBytesPerSec(): number {
    return this.#rateBytesPerMs * 1000
  }

  /** Pieces that are here, by download or from before. */
  have(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) this.#gained(piece)
  }

  /** Pieces whose digest is known: only these are asked of normal parents. */
  pieceKnown(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) {
      if (!setBit(this.#known, piece)) continue
      if (!hasBit(this.#have, piece) && !this.#askedOf.has(piece)) setBit(this.#want, piece)
    }
  }

  /** A channel is open to a parent that chooses its answers, or doesn't. A seed announces nothing. Joining twice is a fresh start. */
  parentJoined(id: P, chooses: boolean, haves: ReadonlyBitmap | undefined): void {
    this.parentLeft(id)
    const parent = newParent(id, chooses, this.#options.pieces)
    this.#parents.set(id, parent)
    this.#order.push(parent)
    if (chooses) this.#choosers++
    if (haves) {
      setFrom(parent.has, haves)
      for (const [from, count] of haves.ranges()) this.#count(from, count, 1)
    }
  }

  /** The parent got more. True when {@link decide} has something to do about it now. */
  parentHaves(id: P, from: number, count: number, nowMs: number): boolean {
    const parent = this.#parents.get(id)
    if (!parent) return false
    let wanted = false
    for (let piece = from; piece < from + count; piece++) wanted = this.#parentHas(parent, piece, nowMs) || wanted
    return this.#pending.length > 0 || (wanted && this.#askedOf.size < this.#window())
  }

  /** {@link parentHaves} of pieces that needn't follow each other. */
  parentHasThese(id: P, pieces: readonly number[], nowMs: number): boolean {
    const parent = this.#parents.get(id)
    if (!parent) return false
    let wanted = false
    for (const piece of pieces) wanted = this.#parentHas(parent, piece, nowMs) || wanted
    return this.#pending.length > 0 || (wanted && this.#askedOf.size < this.#window())
  }

  #parentHas(parent: PlanParent<P>, piece: number, nowMs: number): boolean {
    if (parent.banned?.has(piece) || !setBit(parent.has, piece)) return false
    this.#holders[piece] = (this.#holders[piece] ?? 0) + 1
    if (parent.chooses) return this.#orphans.size > 0 && this.#orphans.has(piece)
    if (hasBit(this.#want, piece)) return true
    this.#mayMove(parent, piece, nowMs)
    return false
  }

  /**
   * The first bytes of an answer are here. True when the parents that choose should hear that this piece is coming, so that
   * they give others. A second copy of what is coming already is cancelled at the next {@link decide}; what arrives of it
   * must not be reported. A caller that can't tell may leave it out, at the price of pieces that come twice.
   */
  pieceStarted(id: P, piece: number, nowMs: number): boolean {
    const parent = this.#parents.get(id)
    if (!parent) return false
    const ask = parent.asks.find((one) => one.piece === piece) ?? parent.asks.find((one) => one.piece < 0)
    if (!ask) return false
    ask.started = true
    if (ask.piece >= 0) return parent.chooses
    this.#anyInFlight--
    ask.piece = piece
    ask.sinceMs = nowMs
    const asked = this.#askedOf.get(piece)
    const twice = asked?.some((other) => other.asks.some((one) => one.piece === piece && one.started)) ?? false
    // A seed beside parents that don't choose wasn't told, and would choose the same again: what it began comes twice.
    if ((twice || hasBit(this.#have, piece)) && this.#choosers === this.#order.length) {
      takeAsk(parent, piece)
      this.#pending.push({ kind: 'cancel', parent: id, piece })
      return false
    }
    if (twice) asked?.push(parent)
    if (twice || hasBit(this.#have, piece)) return false
    if (asked) this.#cancelElsewhere(piece)
    this.#askedOf.set(piece, [parent])
    clearBit(this.#want, piece)
    return true
  }

  /**
   * A new holder of a piece that still waits in another parent's queue: with h holders the question moves here with chance
   * 1/h, so that the queues of all holders stay alike while a piece spreads.
   */
  #mayMove(to: PlanParent<P>, piece: number, nowMs: number): void {
    if (to.asks.length > 0 || to.suspectMs > 0) return
    const asked = this.#askedOf.get(piece)
    if (asked?.length !== 1 || this.#random() * (this.#holders[piece] ?? 1) > 1) return
    const [from] = asked
    if (from && from !== to && from.asks.some((ask) => ask.piece === piece && !ask.started))
      this.#move(from, to, piece, nowMs)
  }

  #move(from: PlanParent<P>, to: PlanParent<P>, piece: number, nowMs: number): void {
    takeAsk(from, piece)
    this.#unask(from, piece)
    this.#pending.push({ kind: 'cancel', parent: from.id, piece })
    this.#ask(this.#pending, to, piece, nowMs)
  }

  /** The channel ended: what was asked there may be asked elsewhere. */
  parentLeft(id: P): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    this.#parents.delete(id)
    this.#order.splice(this.#order.indexOf(parent), 1)
    if (parent.chooses) this.#choosers--
    for (const ask of parent.asks) {
      this.#unask(parent, ask.piece)
      this.#orphan(ask)
    }
    for (let at = 0; at < parent.has.length; at++) {
      for (let word = parent.has[at] ?? 0; word !== 0; word &= word - 1) this.#count((at << 5) + lowestBit(word), 1, -1)
    }
  }

  /**
   * A verified piece came from this parent. `any` when it was the seed's choice. Questions for the same piece elsewhere come
   * out of the next {@link decide} as cancels.
   */
  pieceArrived(id: P, piece: number, any: boolean, nowMs: number): void {
    const parent = this.#parents.get(id)
    const ask = parent && (takeAsk(parent, piece) ?? (any ? takeAsk(parent, -1) : undefined))
    if (parent && ask) {
      this.#unask(parent, ask.piece)
      const tookMs = nowMs - ask.sinceMs
      this.#usualMs = this.#usualMs === 0 ? tookMs : this.#usualMs + 0.1 * (tookMs - this.#usualMs)
      this.#bestMs = this.#bestMs === 0 ? tookMs : Math.min(tookMs, this.#bestMs * 1.01)
      noteAnswer(parent, ask, nowMs)
    }
    this.#sampleRate(nowMs)
    if (!this.#gained(piece)) {
      this.#wasted++
      return
    }
    if (this.#askedOf.has(piece)) this.#cancelElsewhere(piece)
  }

  /** A question failed. `piece` is -1 for the parent's choice that wasn't named yet. What the parent then deserves comes out of {@link decide}. */
  pieceFailed(id: P, piece: number, reason: FailReason): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    const ask = takeAsk(parent, piece)
    if (ask) {
      this.#unask(parent, ask.piece)
      this.#orphan(ask)
    }
    if (reason === 'cancelled') return
    if (reason === 'absent') {
      this.#forgetPiece(parent, piece)
      if (++parent.strikes >= 8) this.#replace(parent, reason)
      return
    }
    if (piece >= 0) this.#ban(parent, piece)
    if (reason === 'short' && ++parent.strikes < 2) return
    this.#replace(parent, reason)
  }

  /** The seed has nothing left for us; it is asked no more until it opens again. */
  seedDrained(id: P): void {
    const parent = this.#parents.get(id)
    if (!parent) return
    const ask = takeAsk(parent, -1)
    if (ask) this.#unask(parent, -1)
    parent.drained = true
  }

  /** A reader waits for pieces [from, to): they come first, in order, the higher `priority` before the lower. */
  demand(from: number, to: number, priority: number): void {
    this.#demands.push({ from, to, priority })
    this.#demands.sort((a, b) => b.priority - a.priority)
    if (this.#demands.length > 64) this.#demands.pop()
  }

  /** The reader is gone or has moved on. */
  undemand(from: number, to: number): void {
    const at = this.#demands.findIndex((demand) => demand.from === from && demand.to === to)
    if (at >= 0) this.#demands.splice(at, 1)
  }

  /** Looks for late parents: call it some times a second, then {@link decide}. */
  tick(nowMs: number): void {
    if (this.#usualMs === 0) return
    const lateMs = Math.max(this.#options.lateMs, this.#options.lateFactor * this.#usualMs)
    for (const parent of [...this.#order]) {
      // A parent that chooses may have nothing for us: late is only what it began and doesn't end.
      const oldest = parent.asks.find((ask) => ask.piece >= 0)
      if (!oldest) continue
      const waitedMs = nowMs - Math.max(oldest.sinceMs, parent.lastAnswerMs)
      if (waitedMs < lateMs) continue
      if (parent.suspectMs === 0) {
        parent.suspectMs = nowMs
        // Routed round: what it owes may be asked of others, and the first answer wins.
        for (const ask of parent.asks) {
          if (ask.piece < 0 || hasBit(this.#have, ask.piece)) continue
          this.#wantAgain(ask.piece)
          this.#orphan(ask)
        }
        continue
      }
      if (nowMs - parent.suspectMs >= lateMs) this.#replace(parent, parent.answers > 0 ? 'slow' : 'stalled')
    }
  }

  /** What to do now. Each action is taken as done: the plan counts its questions as under way from here on. */
  decide(nowMs: number): Action<P>[] {
    const actions = this.#pending.splice(0)
    if (this.done) return actions
    const window = this.#window()
    this.#askSeeds(actions, nowMs)
    if (this.#choosers === this.#order.length && this.#demands.length === 0 && this.#orphans.size === 0) {
      this.#endgame(actions, window, nowMs)
      return actions
    }
    while (this.#askedOf.size < window) {
      const next = this.#pick(nowMs)
      if (!next) {
        this.#steal(actions, nowMs)
        break
      }
      this.#ask(actions, next.parent, next.piece, nowMs)
    }
    if (this.#askedOf.size < window) this.#endgame(actions, window, nowMs)
    return actions
  }

  /** The plan as text for people: one line for the task, one per parent. */
  describe(): string {
    const lines = [
      `pieces ${this.#haveCount}/${this.#options.pieces} in flight ${this.#askedOf.size}/${this.#window()} wasted ${this.#wasted}`,
    ]
    for (const parent of this.#order) {
      const kind = parent.chooses ? 'chooses' : 'peer'
      const state = parent.suspectMs > 0 ? ' late' : ''
      lines.push(
        `${kind} ${String(parent.id)} asked ${parent.asks.map((ask) => ask.piece).join(',') || '-'} ${Math.round(parent.pieceMs)} ms${state}`,
      )
    }
    return lines.join('\n')
  }

  #window(): number {
    const { minInFlight, maxInFlight, depth, inFlightBytes, pieceBytes } = this.#options
    const product = Math.ceil((this.#rateBytesPerMs * this.#bestMs) / pieceBytes)
    const most = Math.max(1, Math.min(maxInFlight, Math.floor(inFlightBytes / pieceBytes)))
    return Math.min(most, Math.max(minInFlight, depth + product))
  }

  #askSeeds(actions: Action<P>[], nowMs: number): void {
    if (this.#choosers === 0) return
    // Beside parents that don't choose, a seed is asked for no more than lacks: it doesn't hear what they send.
    const all = this.#choosers === this.#order.length
    const most = all ? Math.max(this.#options.perSeed, Math.ceil(LEAST_ANY / this.#choosers)) : this.#options.perSeed
    for (const parent of this.#order) {
      if (!parent.chooses || parent.drained || parent.suspectMs > 0) continue
      while (
        parent.asks.length < most &&
        (all || this.#haveCount + this.#askedOf.size + this.#anyInFlight < this.#options.pieces)
      ) {
        parent.asks.push({ piece: -1, any: true, sinceMs: nowMs, started: false })
        this.#anyInFlight++
        actions.push({ kind: 'askAny', parent: parent.id })
      }
    }
  }

  /**
   * Whom to ask next and for what: the parent with something to give that is expected to answer first, and of what it has
   * the piece with the fewest holders. Parent before piece, because everybody wants the rare pieces of the few that have
   * them: piece before parent leaves half of the uplinks idle (docs/scheduling.md).
   */
  #pick(nowMs: number): { parent: PlanParent<P>; piece: number } | undefined {
    const demanded = this.#demanded(nowMs)
    if (demanded) return demanded
    let best: PlanParent<P> | undefined
    let bestMs = Number.POSITIVE_INFINITY
    let ties = 0
    const most = this.#perParent()
    for (const parent of this.#order) {
      if (parent.chooses || parent.asks.length >= most || parent.suspectMs > 0) continue
      const ms = expectedMs(parent, this.#usualMs, nowMs)
      if (ms > bestMs || !this.#offers(parent)) continue
      if (ms < bestMs) {
        best = parent
        bestMs = ms
        ties = 1
      } else if (randomBelow(this.#random, ++ties) === 0) best = parent
    }
    return best && { parent: best, piece: this.#rarestOf(best) }
  }

  /** Nothing new to ask: questions that wait too long move to parents that we ask nothing. */
  #steal(actions: Action<P>[], nowMs: number): void {
    const waitedMs = 2 * this.#bestMs
    if (waitedMs === 0) return
    for (const from of this.#order) {
      if (from.chooses || from.asks.length === 0) continue
      for (const ask of [...from.asks]) {
        if (ask.started || nowMs - ask.sinceMs < waitedMs || this.#askedOf.get(ask.piece)?.length !== 1) continue
        const to = this.#soonest(ask.piece, nowMs, from)
        if (to && to.asks.length === 0) this.#move(from, to, ask.piece, nowMs)
      }
    }
    for (const action of this.#pending.splice(0)) actions.push(action)
  }

  #offers(parent: PlanParent<P>): boolean {
    const want = this.#want
    const { has } = parent
    for (let at = 0; at < want.length; at++) if (((want[at] ?? 0) & (has[at] ?? 0)) !== 0) return true
    return false
  }

  /** The wanted piece of this parent that has the fewest holders, ties by chance. */
  #rarestOf(parent: PlanParent<P>): number {
    const want = this.#want
    const { has } = parent
    let best = -1
    let fewest = 0xffff
    let ties = 0
    for (let at = 0; at < want.length; at++) {
      for (let word = (want[at] ?? 0) & (has[at] ?? 0); word !== 0; word &= word - 1) {
        const piece = (at << 5) + lowestBit(word)
        const holders = this.#holders[piece] ?? 0
        if (holders < fewest) {
          best = piece
          fewest = holders
          ties = 1
        } else if (holders === fewest && randomBelow(this.#random, ++ties) === 0) best = piece
      }
    }
    return best
  }

  #perParent(): number {
    const normal = Math.max(1, this.#order.length)
    return Math.max(this.#options.perParent, Math.ceil(this.#window() / normal))
  }

  #demanded(nowMs: number): { parent: PlanParent<P>; piece: number } | undefined {
    for (const piece of this.#orphans) {
      const parent = hasBit(this.#want, piece) && this.#holders[piece] !== 0 ? this.#soonest(piece, nowMs) : undefined
      if (parent) return { parent, piece }
    }
    for (const { from, to } of this.#demands) {
      for (let piece = from; piece < to; piece++) {
        if (!hasBit(this.#want, piece) || this.#holders[piece] === 0) continue
        const parent = this.#soonest(piece, nowMs)
        if (parent) return { parent, piece }
      }
    }
    return undefined
  }

  /** The holder of this piece that is expected to answer first, ties by chance. */
  #soonest(piece: number, nowMs: number, but?: PlanParent<P>): PlanParent<P> | undefined {
    let best: PlanParent<P> | undefined
    let bestMs = Number.POSITIVE_INFINITY
    let ties = 0
    const most = this.#perParent()
    for (const parent of this.#order) {
      if (!hasBit(parent.has, piece) || parent === but) continue
      if (named(parent) >= most || parent.suspectMs > 0) continue
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
    parent.asks.push({ piece, any: false, sinceMs: nowMs, started: false })
    const asked = this.#askedOf.get(piece)
    if (asked) asked.push(parent)
    else this.#askedOf.set(piece, [parent])
    clearBit(this.#want, piece)
    actions.push({ kind: 'ask', parent: parent.id, piece })
  }

  /** With everything asked and little left, asks the longest awaited pieces of a second parent. */
  #endgame(actions: Action<P>[], window: number, nowMs: number): void {
    const { pieces, endgame, waste } = this.#options
    const lacking = pieces - this.#haveCount
    if (lacking > Math.max(2, Math.ceil(pieces * endgame))) return
    const patienceMs = this.#usualMs > 0 ? this.#usualMs : this.#options.lateMs
    let budget = Math.max(1, Math.floor(pieces * waste)) - this.#wasted
    for (const parent of this.#order) {
      for (const ask of [...parent.asks]) {
        if (budget <= 0 || this.#askedOf.size >= window) return
        if (
          ask.piece < 0 ||
          hasBit(this.#have, ask.piece) ||
          (this.#askedOf.get(ask.piece)?.length ?? 0) > 1 ||
          nowMs - ask.sinceMs < patienceMs
        )
          continue
        const other = this.#soonest(ask.piece, nowMs, parent)
        if (!other || expectedMs(other, this.#usualMs, nowMs) > expectedMs(parent, this.#usualMs, nowMs)) continue
        this.#ask(actions, other, ask.piece, nowMs)
        budget--
      }
    }
  }

  #gained(piece: number): boolean {
    if (!setBit(this.#have, piece)) return false
    this.#haveCount++
    clearBit(this.#want, piece)
    this.#orphans.delete(piece)
    return true
  }

  #forgetPiece(parent: PlanParent<P>, piece: number): void {
    if (piece < 0 || !hasBit(parent.has, piece)) return
    clearBit(parent.has, piece)
    this.#count(piece, 1, -1)
  }

  #ban(parent: PlanParent<P>, piece: number): void {
    parent.banned ??= new Set()
    parent.banned.add(piece)
    this.#forgetPiece(parent, piece)
  }

  #count(from: number, count: number, by: number): void {
    for (let piece = from; piece < from + count; piece++) this.#holders[piece] = (this.#holders[piece] ?? 0) + by
  }

  /** One question less for this piece; wanted again when it was the last. */
  #unask(parent: PlanParent<P>, piece: number): void {
    if (piece < 0) {
      this.#anyInFlight--
      return
    }
    const asked = this.#askedOf.get(piece)
    const at = asked?.indexOf(parent) ?? -1
    if (!asked || at < 0) return
    asked.splice(at, 1)
    if (asked.length > 0) return
    this.#askedOf.delete(piece)
    if (!hasBit(this.#have, piece)) this.#wantAgain(piece)
  }

  #orphan(ask: Ask): void {
    if (ask.any && ask.piece >= 0 && !hasBit(this.#have, ask.piece)) this.#orphans.add(ask.piece)
  }

  #wantAgain(piece: number): void {
    if (hasBit(this.#known, piece)) setBit(this.#want, piece)
  }

  #cancelElsewhere(piece: number): void {
    for (const parent of [...(this.#askedOf.get(piece) ?? [])]) {
      if (!takeAsk(parent, piece)) continue
      this.#unask(parent, piece)
      this.#pending.push({ kind: 'cancel', parent: parent.id, piece })
    }
  }

  #replace(parent: PlanParent<P>, reason: FailReason | 'slow'): void {
    this.parentLeft(parent.id)
    this.#pending.push({ kind: 'replace', parent: parent.id, reason })
  }

  #sampleRate(nowMs: number): void {
    if (this.#rateSinceMs < 0) this.#rateSinceMs = nowMs
    this.#rateBytes += this.#options.pieceBytes
    const spanMs = nowMs - this.#rateSinceMs
    if (spanMs < 50) return
    const rate = this.#rateBytes / spanMs
    this.#rateBytesPerMs =
      this.#rateBytesPerMs === 0 ? rate : this.#rateBytesPerMs + 0.3 * (rate - this.#rateBytesPerMs)
    this.#rateSinceMs = nowMs
    this.#rateBytes = 0
  }
}
