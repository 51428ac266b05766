/**
 * Decides which piece a parent gives to which child. A child asks for "any" piece, and the parent chooses at the instant its uplink is
 * free. It takes, of the pieces that it holds and the child lacks, the one with the fewest known holders. Late choice is what keeps uplinks
 * busy and new pieces fast (docs/scheduling.md).
 *
 * A seed uses it without chance: each piece leaves it once before any leaves twice, in the order the origin is read. Peers break ties by
 * chance, so that neighbours with the same pieces don't give the same.
 *
 * Pure: no clock, no I/O. The caller owns the waiting: it calls {@link Handout.give} with its waiting children in the order they asked,
 * again after each event.
 */
import type { Random } from '../../core/clock.ts'
import type { ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { Holdings } from './holdings.ts'

export interface HandoutOptions {
  /**
   * Pieces offered, taken or being sent at once, over all children. The least keeps a link busy whose children answer at once; the most is
   * for answers that take as long as many pieces. More than needed makes choices old (docs/scheduling.md).
   */
  readonly slots: number
  readonly mostSlots: number
  /** A piece of which its child has said nothing this long after it was given counts as lost; no piece keeps a slot longer. */
  readonly confirmMs: number
  /** A child with so many pieces on their way to it, from all its parents, waits in {@link Handout.give}, unless it said that fewer do. */
  readonly incoming: number
  /** Chance for ties; without it lower numbers go first. */
  readonly random?: Random
}

export const HANDOUT_DEFAULTS: HandoutOptions = { slots: 2, mostSlots: 8, confirmMs: 5_000, incoming: 8 }

interface Grant {
  readonly piece: number
  readonly sinceMs: number
  /** When the child took it; 0 before that. */
  takenMs: number
  /** Still holds an upload slot. */
  sending: boolean
  /** The child said that the piece is coming, from us or from elsewhere. */
  coming: boolean
  /** It needn't say so: it takes whatever comes. */
  sure: boolean
}

/** A child's place at a parent. Only a {@link Handout} looks inside. */
export interface Seat<C> {
  readonly child: C
  /** Its place among the {@link Holdings}; 0 once it is released. */
  place: number
  readonly grants: Grant[]
  granted: number
  /** It takes whatever it is given, and asks nobody else: what has the lowest number is best. */
  sure: boolean
  /** Such a one takes pieces that are still coming here, too. */
  early: boolean
  /** So many pieces it wants on their way to it, from all its parents. */
  ahead: number
}

/** The handout of one task. `C` names a child: a peer id, or a number in the simulator. */
export class Handout<C> {
  readonly #options: HandoutOptions
  readonly #holdings: Holdings
  readonly #seats = new Set<Seat<C>>()
  #busy = 0
  /** Children that take whatever they are given. */
  #sure = 0
  /** Smoothed: from an offer to its answer, and from one piece out to the next. */
  #answerMs = 0
  #pieceMs = 0
  #sentMs = 0

  constructor(pieces: number, options: HandoutOptions = HANDOUT_DEFAULTS) {
    this.#options = options
    this.#holdings = new Holdings(pieces)
  }

  /** Pieces under way now. What is given never brings it above `slots`; pieces asked for by name may. */
  get busy(): number {
    return this.#busy
  }

  get children(): number {
    return this.#seats.size
  }

  /** How many pieces may be under way now. */
  get slots(): number {
    const { slots, mostSlots } = this.#options
    if (this.#pieceMs === 0) return slots
    return Math.min(mostSlots, slots + Math.floor(this.#answerMs / this.#pieceMs))
  }

  /** False: {@link give} gives nothing to anybody now. */
  get gives(): boolean {
    return this.#sure > 0 || (this.#holdings.lacks > 0 && this.#busy < this.slots)
  }

  /** These pieces are here and may be given from now on. */
  known(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) this.#holdings.known(piece)
  }

  /** A piece begins to come here and may be passed on meanwhile, or isn't coming any more. */
  arriving(piece: number, coming: boolean): void {
    this.#holdings.arriving(piece, coming)
  }

  /** How many pieces a child reported as here. */
  held({ place }: Seat<C>): number {
    return place === 0 ? 0 : this.#holdings.held(place)
  }

  /** A child opened the task, holding `have`. */
  join(child: C, have: ReadonlyBitmap): Seat<C> {
    const seat: Seat<C> = {
      child,
      place: this.#holdings.join(),
      grants: [],
      granted: 0,
      sure: false,
      early: false,
      ahead: this.#options.incoming,
    }
    this.#seats.add(seat)
    for (const [from, count] of have.ranges()) {
      for (let piece = from; piece < from + count; piece++) this.holds(seat, piece)
    }
    return seat
  }

  /** How a child asks from now on: see {@link Seat.sure}, {@link Seat.early} and {@link Seat.ahead}. */
  asks(seat: Seat<C>, { sure, early, ahead }: { sure: boolean; early: boolean; ahead?: number }): void {
    if (ahead !== undefined && ahead > 0) seat.ahead = Math.min(ahead, this.#options.incoming)
    if (seat.sure !== sure && seat.place > 0) this.#sure += sure ? 1 : -1
    seat.sure = sure
    seat.early = early
  }

  /**
   * Which of the waiting children gets something now, by its place in the list, and what. It is the child with the fewest pieces on their
   * way; among equals, the one that asked first. Undefined when none can be given anything now: all slots are taken, and those whose only
   * parent this is have theirs.
   */
  give(asking: readonly Seat<C>[], nowMs: number): { at: number; piece: number } | undefined {
    if (!this.gives) return undefined
    const full = this.#busy >= this.slots
    let best: Seat<C> | undefined
    let bestAt = -1
    let bestPiece = -1
    let fewest = this.#options.incoming
    for (let at = 0; at < asking.length; at++) {
      const seat = asking[at]
      if (!seat || seat.place === 0 || (full && !this.#ownRoom(seat))) continue
      // what a child that asks nobody else is sent is bounded by its questions, not by how soon its words come
      const owed = this.#holdings.incoming(seat.place)
      const incoming = seat.sure ? Math.min(owed, this.#options.incoming - 1) : owed
      if (
        incoming >= Math.min(fewest, seat.sure ? fewest : seat.ahead) ||
        (this.#holdings.lacking(seat.place) === 0 && !seat.early)
      )
        continue
      const piece = this.#choose(seat)
      if (piece < 0) continue
      best = seat
      bestAt = at
      bestPiece = piece
      fewest = incoming
      if (incoming === 0) break
    }
    if (!best) return undefined
    const { sure } = best
    this.#grant(best, {
      piece: bestPiece,
      sinceMs: nowMs,
      takenMs: sure ? nowMs : 0,
      sending: true,
      coming: false,
      sure,
    })
    return { at: bestAt, piece: bestPiece }
  }

  /** The child took what it was given. */
  taken(seat: Seat<C>, piece: number, nowMs: number): void {
    const grant = seat.grants.find((one) => one.piece === piece)
    if (!grant) return
    grant.takenMs = nowMs
    this.#answerMs = smoothed(this.#answerMs, nowMs - grant.sinceMs)
  }

  /** A piece that the child asked for by name begins to be sent: the uplink is busy with it. */
  named(seat: Seat<C>, piece: number, nowMs: number): void {
    if (!seat.grants.some((grant) => grant.piece === piece))
      this.#grant(seat, { piece, sinceMs: nowMs, takenMs: nowMs, sending: true, coming: true, sure: false })
  }

  /** All bytes of a piece went out: its slot is free, the child still owes the confirmation. */
  sent(seat: Seat<C>, piece: number, nowMs: number): void {
    const grant = seat.grants.find((one) => one.piece === piece)
    if (grant?.sending) this.#pieceMs = smoothed(this.#pieceMs, nowMs - Math.max(grant.takenMs, this.#sentMs))
    this.#sentMs = nowMs
    this.yields(seat, piece)
  }

  /** A piece no longer keeps the uplink: its bytes wait for the child, or for a limit. */
  yields(seat: Seat<C>, piece: number): void {
    const at = seat.grants.findIndex((grant) => grant.piece === piece)
    const grant = seat.grants[at]
    if (!grant) return
    this.#free(grant)
    if (this.#holdings.isHeld(seat.place, piece)) this.#drop(seat, at)
  }

  /**
   * The child couldn't be sent the piece, or found it wrong. It may be given again, unless the child reported that it comes from elsewhere.
   */
  failed(seat: Seat<C>, piece: number): void {
    const grant = seat.grants.find((one) => one.piece === piece)
    if (grant) this.#withdraw(seat, grant, grant.coming)
  }

  /** The child reported that a piece is on its way to it, from us or from another parent. */
  coming(seat: Seat<C>, piece: number): void {
    if (seat.place > 0) this.#holdings.take(seat.place, piece)
    if (seat.granted === 0) return
    for (const grant of seat.grants) if (grant.piece === piece) grant.coming = true
  }

  /** The child reported that a piece isn't coming after all: it may be given. What we are sending of it ourselves goes on. */
  lost(seat: Seat<C>, piece: number): void {
    const grant = seat.granted === 0 ? undefined : seat.grants.find((one) => one.piece === piece)
    if (grant?.sending) grant.coming = grant.sure = false
    else if (grant) this.#withdraw(seat, grant, false)
    else if (seat.place > 0) this.#holdings.untake(seat.place, piece)
  }

  /** The child reported that it holds a piece. */
  holds(seat: Seat<C>, piece: number): void {
    if (seat.place === 0 || !this.#holdings.hold(seat.place, piece) || seat.granted === 0) return
    const at = seat.grants.findIndex((grant) => grant.piece === piece && !grant.sending)
    if (at >= 0) this.#drop(seat, at)
  }

  /** The child is gone: what it was given and didn't confirm is free again, and it counts as a holder no more. */
  release(seat: Seat<C>): void {
    if (!this.#seats.delete(seat)) return
    if (seat.sure) this.#sure--
    for (const grant of seat.grants.splice(0)) this.#free(grant)
    seat.granted = 0
    this.#holdings.leave(seat.place)
    seat.place = 0
  }

  /**
   * Takes back pieces that were given too long ago without a report that they are coming. Also frees the uplink from a piece that has kept
   * it as long. True when something may be given now that couldn't before.
   */
  expire(nowMs: number): boolean {
    let changed = false
    // where pieces take long, all slots together may take longer than that
    const confirmMs = Math.max(this.#options.confirmMs, 2 * this.slots * this.#pieceMs)
    for (const seat of this.#seats) {
      for (const grant of [...seat.grants]) {
        if (nowMs - grant.sinceMs < confirmMs) continue
        const expected = grant.coming || grant.sure
        changed ||= grant.sending || !expected
        if (expected) this.#free(grant)
        else this.#withdraw(seat, grant, false)
      }
    }
    return changed
  }

  #choose({ place, sure, early }: Seat<C>): number {
    return this.#holdings.choose(place, { lowest: sure, early: sure && early, random: this.#options.random })
  }

  /** A child that asks nobody else isn't kept waiting by pieces that others take long to read. */
  #ownRoom({ sure, grants }: Seat<C>): boolean {
    return sure && grants.reduce((sending, grant) => sending + (grant.sending ? 1 : 0), 0) < this.#options.slots
  }

  #free(grant: Grant): void {
    if (!grant.sending) return
    grant.sending = false
    this.#busy--
  }

  #withdraw(seat: Seat<C>, grant: Grant, keep: boolean): void {
    this.#free(grant)
    this.#drop(seat, seat.grants.indexOf(grant))
    if (!keep) this.#holdings.untake(seat.place, grant.piece)
  }

  #drop(seat: Seat<C>, at: number): void {
    seat.grants.splice(at, 1)
    seat.granted--
  }

  #grant(seat: Seat<C>, grant: Grant): void {
    if (seat.place === 0) return
    seat.grants.push(grant)
    seat.granted++
    this.#holdings.take(seat.place, grant.piece)
    this.#busy++
  }
}

function smoothed(before: number, ms: number): number {
  const sample = Math.max(0.01, ms)
  return before === 0 ? sample : before + 0.1 * (sample - before)
}
