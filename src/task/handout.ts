/**
 * What a parent gives to whom. A child asks for "any" piece and the parent chooses at the instant its uplink is free, of what
 * it holds and the child lacks the piece with the fewest known holders. Late choice is what keeps uplinks busy and new pieces
 * fast (docs/scheduling.md).
 *
 * A seed uses it without chance: each piece leaves it once before any leaves twice, in the order the origin is read. Peers
 * break ties by chance, so that neighbours with the same pieces don't give the same.
 *
 * Pure: no clock, no I/O. The caller owns the waiting: it calls {@link Handout.give} with its waiting children in the order
 * they asked, again after each event.
 */
import { type Random, randomBelow } from '../base/clock.ts'
import type { ReadonlyBitmap } from './bitmap.ts'

export interface HandoutOptions {
  /**
   * Pieces offered, taken or being sent at once, over all children: the least, which keeps a link busy whose children answer
   * at once, and the most, where they take as long as many pieces do. More than needed makes choices old (docs/scheduling.md).
   */
  readonly slots: number
  readonly mostSlots: number
  /** A piece of which its child has said nothing this long after it was given counts as lost; no piece keeps a slot longer. */
  readonly confirmMs: number
  /** A child with so many pieces on their way to it, from all its parents, waits in {@link Handout.give}. */
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
  /** Two words for each 32 pieces: what the child has or is getting, from us or from others; and what it told that it has. */
  readonly words: Uint32Array
  /** How many it has or is getting, and how many it has. */
  taken: number
  held: number
  readonly grants: Grant[]
  granted: number
  /** False once it is released. */
  open: boolean
  /** How many of those that may be given it neither has nor is getting. */
  lacks: number
  /** It takes whatever it is given, and asks nobody else: what has the lowest number is best. */
  sure: boolean
  /** Such a one takes pieces that are still coming here, too. */
  early: boolean
}

/** The handout of one task. `C` names a child: a peer id, or a number in the simulator. */
export class Handout<C> {
  readonly #options: HandoutOptions
  /** What may be given: piece `n` is bit `n & 31` of word `n >> 5`. */
  readonly #known: Uint32Array
  /** What is coming and may be passed on meanwhile. */
  readonly #coming: Uint32Array
  /** Children known to hold a piece, plus grants under way. */
  readonly #spread: Uint16Array
  readonly #seats = new Set<Seat<C>>()
  #busy = 0
  /** Children that take whatever they are given; what all children lack together. */
  #sure = 0
  #lacks = 0
  /** Smoothed: from an offer to its answer, and from one piece out to the next. */
  #answerMs = 0
  #pieceMs = 0
  #sentMs = 0

  constructor(pieces: number, options: HandoutOptions = HANDOUT_DEFAULTS) {
    this.#options = options
    this.#known = new Uint32Array((pieces + 31) >>> 5)
    this.#coming = new Uint32Array(this.#known.length)
    this.#spread = new Uint16Array(pieces)
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
    return this.#sure > 0 || (this.#lacks > 0 && this.#busy < this.slots)
  }

  /** These pieces are here and may be given from now on. */
  known(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) {
      if (!add(this.#known, piece >>> 5, piece)) continue
      for (const seat of this.#seats) if (!isTaken(seat, piece)) this.#lack(seat, 1)
    }
  }

  /** A piece begins to come here and may be passed on meanwhile, or isn't coming any more. */
  arriving(piece: number, coming: boolean): void {
    if (coming) add(this.#coming, piece >>> 5, piece)
    else this.#coming[piece >>> 5] = (this.#coming[piece >>> 5] ?? 0) & ~(1 << (piece & 31))
  }

  /** A child opened the task, holding `have`. */
  join(child: C, have: ReadonlyBitmap): Seat<C> {
    const words = new Uint32Array(2 * this.#known.length)
    const lacks = this.#known.reduce((sum, word) => sum + bitsOf(word), 0)
    const seat: Seat<C> = {
      child,
      words,
      taken: 0,
      held: 0,
      grants: [],
      granted: 0,
      open: true,
      lacks,
      sure: false,
      early: false,
    }
    this.#seats.add(seat)
    this.#lacks += lacks
    for (const [from, count] of have.ranges()) {
      for (let piece = from; piece < from + count; piece++) this.holds(seat, piece)
    }
    return seat
  }

  /** How a child asks from now on: see {@link Seat.sure} and {@link Seat.early}. */
  asks(seat: Seat<C>, { sure, early }: { sure: boolean; early: boolean }): void {
    if (seat.sure !== sure && seat.open) this.#sure += sure ? 1 : -1
    seat.sure = sure
    seat.early = early
  }

  /**
   * Which of the children that wait gets something now, by its place in the list, and what: the one with the fewest pieces
   * on their way to it, who asked first among equals. Undefined when none can be given anything now: all slots are taken, and
   * those whose only parent this is have theirs.
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
      if (!seat || (full && !this.#ownRoom(seat))) continue
      // what a child that asks nobody else is sent is bounded by its questions, not by how soon its words come
      const owed = seat.taken - seat.held
      const incoming = seat.sure ? Math.min(owed, this.#options.incoming - 1) : owed
      if (incoming >= fewest || (seat.lacks === 0 && !seat.early)) continue
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
    if (isHeld(seat, piece)) this.#drop(seat, at)
  }

  /** The child couldn't be sent the piece, or found it wrong: it may be given again, unless it told that it comes from elsewhere. */
  failed(seat: Seat<C>, piece: number): void {
    const grant = seat.grants.find((one) => one.piece === piece)
    if (grant) this.#withdraw(seat, grant, grant.coming)
  }

  /** The child told that a piece is on its way to it, from us or from another parent. */
  coming(seat: Seat<C>, piece: number): void {
    this.#take(seat, piece)
    if (seat.granted === 0) return
    for (const grant of seat.grants) if (grant.piece === piece) grant.coming = true
  }

  /** The child told that a piece isn't coming after all: it may be given. What we are sending of it ourselves goes on. */
  lost(seat: Seat<C>, piece: number): void {
    const grant = seat.granted === 0 ? undefined : seat.grants.find((one) => one.piece === piece)
    if (grant?.sending) grant.coming = grant.sure = false
    else if (grant) this.#withdraw(seat, grant, false)
    else this.#untake(seat, piece)
  }

  /** The child told that it holds a piece. */
  holds(seat: Seat<C>, piece: number): void {
    if (!add(seat.words, ((piece >>> 5) << 1) + 1, piece)) return
    seat.held++
    this.#take(seat, piece)
    if (seat.granted === 0) return
    const at = seat.grants.findIndex((grant) => grant.piece === piece && !grant.sending)
    if (at >= 0) this.#drop(seat, at)
  }

  /** The child is gone: what it was given and didn't confirm is free again, and it counts as a holder no more. */
  release(seat: Seat<C>): void {
    if (!this.#seats.delete(seat)) return
    seat.open = false
    if (seat.sure) this.#sure--
    this.#lacks -= seat.lacks
    for (const grant of seat.grants.splice(0)) this.#free(grant)
    seat.granted = 0
    for (let at = 0; at < this.#known.length; at++) {
      for (let word = seat.words[at << 1] ?? 0; word !== 0; word &= word - 1) this.#lower((at << 5) + lowest(word))
    }
  }

  /**
   * Takes back what children were given too long ago without a word of theirs that it is coming, and the uplink from what
   * has kept it for as long. True when something may be given now that couldn't before.
   */
  expire(nowMs: number): boolean {
    let changed = false
    for (const seat of this.#seats) {
      for (const grant of [...seat.grants]) {
        if (nowMs - grant.sinceMs < this.#options.confirmMs) continue
        const expected = grant.coming || grant.sure
        changed ||= grant.sending || !expected
        if (expected) this.#free(grant)
        else this.#withdraw(seat, grant, false)
      }
    }
    return changed
  }

  /** The fewest known holders first; among equals by chance, or lower numbers first: the order in which the origin is read. */
  #choose({ words, sure, early }: Seat<C>): number {
    const known = this.#known
    const spread = this.#spread
    const { random } = this.#options
    let best = -1
    let fewest = 0x10000
    let ties = 0
    for (let at = 0; at < known.length; at++) {
      const here = (known[at] ?? 0) | (sure && early ? (this.#coming[at] ?? 0) : 0)
      for (let word = here & ~(words[at << 1] ?? 0); word !== 0; word &= word - 1) {
        const piece = (at << 5) + lowest(word)
        if (sure) return piece
        const holders = spread[piece] ?? 0
        if (holders < fewest) {
          best = piece
          fewest = holders
          ties = 1
          if (holders === 0 && !random) return piece
        } else if (holders === fewest && random && randomBelow(random, ++ties) === 0) best = piece
      }
    }
    return best
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
    if (!keep) this.#untake(seat, grant.piece)
  }

  #drop(seat: Seat<C>, at: number): void {
    seat.grants.splice(at, 1)
    seat.granted--
  }

  #take(seat: Seat<C>, piece: number): void {
    if (!add(seat.words, (piece >>> 5) << 1, piece)) return
    seat.taken++
    if (hasBit(this.#known, piece >>> 5, piece)) this.#lack(seat, -1)
    this.#spread[piece] = (this.#spread[piece] ?? 0) + 1
  }

  #untake(seat: Seat<C>, piece: number): void {
    if (isHeld(seat, piece) || !isTaken(seat, piece)) return
    const at = (piece >>> 5) << 1
    seat.taken--
    if (hasBit(this.#known, piece >>> 5, piece)) this.#lack(seat, 1)
    seat.words[at] = (seat.words[at] ?? 0) & ~(1 << (piece & 31))
    this.#lower(piece)
  }

  #grant(seat: Seat<C>, grant: Grant): void {
    seat.grants.push(grant)
    seat.granted++
    this.#take(seat, grant.piece)
    this.#busy++
  }

  #lack(seat: Seat<C>, more: number): void {
    seat.lacks += more
    if (seat.open) this.#lacks += more
  }

  #lower(piece: number): void {
    this.#spread[piece] = Math.max(0, (this.#spread[piece] ?? 0) - 1)
  }
}

function smoothed(before: number, ms: number): number {
  const sample = Math.max(0.01, ms)
  return before === 0 ? sample : before + 0.1 * (sample - before)
}

function isHeld({ words }: Seat<unknown>, piece: number): boolean {
  return hasBit(words, ((piece >>> 5) << 1) + 1, piece)
}

function isTaken({ words }: Seat<unknown>, piece: number): boolean {
  return hasBit(words, (piece >>> 5) << 1, piece)
}

/** Whether the bit of a piece in word `at` is set. */
function hasBit(words: Uint32Array, at: number, piece: number): boolean {
  return ((words[at] ?? 0) & (1 << (piece & 31))) !== 0
}

/** Sets the bit of a piece in word `at`; false when it was set. */
function add(words: Uint32Array, at: number, piece: number): boolean {
  const before = words[at] ?? 0
  const mask = 1 << (piece & 31)
  if ((before & mask) !== 0) return false
  words[at] = before | mask
  return true
}

/** How many bits of a word are set. */
function bitsOf(word: number): number {
  let count = 0
  for (let left = word; left !== 0; left &= left - 1) count++
  return count
}

/** The number of the lowest set bit of a word that isn't 0. */
function lowest(word: number): number {
  return 31 - Math.clz32(word & -word)
}
