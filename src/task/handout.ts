/**
 * What a parent gives to whom. A child asks for "any" piece and the parent chooses at the instant its uplink is free, of what
 * it holds and the child lacks the piece with the fewest known holders. Late choice is what keeps uplinks busy and new pieces
 * fast (docs/scheduling.md).
 *
 * A seed uses it without chance: each piece leaves it once before any leaves twice, in the order the origin is read. Peers
 * break ties by chance, so that neighbours with the same pieces don't give the same.
 *
 * Pure: no clock, no I/O. The caller owns the waiting: it calls {@link Handout.next} for its waiting children in the order
 * they asked, again after each `known`, `sent`, `failed`, `release` or `expire`.
 */
import { type Random, randomBelow } from '../base/clock.ts'
import type { ReadonlyBitmap } from './bitmap.ts'

export interface HandoutOptions {
  /** Pieces being sent at once, over all children. Two keep a link busy; more delays each piece (docs/scheduling.md). */
  readonly slots: number
  /** A piece that its child hasn't confirmed this long after it was given counts as lost, and its slot as free. */
  readonly confirmMs: number
  /** A child with so many pieces on their way to it, from all its parents, waits in {@link Handout.give}. */
  readonly incoming: number
  /** Chance for ties; without it lower numbers go first. */
  readonly random?: Random
}

export const HANDOUT_DEFAULTS: HandoutOptions = { slots: 2, confirmMs: 5_000, incoming: 3 }

interface Grant {
  readonly piece: number
  readonly sinceMs: number
  /** Still holds an upload slot. */
  sending: boolean
  /** The child said that the piece is coming, from us or from elsewhere. */
  coming: boolean
}

/** A child's place at a parent, for callers that tell much or keep a list of those that wait. Only a {@link Handout} looks inside. */
export interface Seat<C> {
  readonly child: C
  /** Two words for each 32 pieces: what the child has or is getting, from us or from others; and what it told that it has. */
  readonly words: Uint32Array
  /** How many it has or is getting, and how many it has. */
  taken: number
  held: number
  readonly grants: Grant[]
  granted: number
}

/** The handout of one task. `C` names a child: a peer id, or a number in the simulator. */
export class Handout<C> {
  readonly #options: HandoutOptions
  readonly #pieces: number
  /** What may be given: piece `n` is bit `n & 31` of word `n >> 5`. */
  readonly #known: Uint32Array
  /** Children known to hold a piece, plus grants under way. */
  readonly #spread: Uint16Array
  readonly #children = new Map<C, Seat<C>>()
  #busy = 0

  constructor(pieces: number, options: HandoutOptions = HANDOUT_DEFAULTS) {
    this.#options = options
    this.#pieces = pieces
    this.#known = new Uint32Array((pieces + 31) >>> 5)
    this.#spread = new Uint16Array(pieces)
  }

  /** Pieces being sent now; never above `slots`. */
  get busy(): number {
    return this.#busy
  }

  get children(): number {
    return this.#children.size
  }

  /** These pieces are here and may be given from now on. */
  known(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) add(this.#known, piece >>> 5, piece)
  }

  /** A child opened the task, holding `have`. */
  join(child: C, have: ReadonlyBitmap): Seat<C> {
    this.release(child)
    const words = new Uint32Array(2 * this.#known.length)
    const record: Seat<C> = { child, words, taken: 0, held: 0, grants: [], granted: 0 }
    this.#children.set(child, record)
    for (const [from, count] of have.ranges()) this.confirmed(child, from, count)
    return record
  }

  /** The piece to give to this child now; `wait` while there is none to give yet, `none` once it needs nothing more. */
  next(child: C, nowMs: number): number | 'wait' | 'none' {
    const record = this.#children.get(child)
    if (!record || record.held >= this.#pieces) return 'none'
    if (this.#busy >= this.#options.slots) return 'wait'
    const piece = this.#choose(record)
    if (piece < 0) return 'wait'
    this.#grant(record, piece, nowMs)
    return piece
  }

  /**
   * Which of the children that wait gets something now, by its place in the list, and what: the one with the fewest pieces
   * on their way to it, who asked first among equals. Undefined when none can be given anything now.
   */
  give(asking: readonly Seat<C>[], nowMs: number): { at: number; piece: number } | undefined {
    if (this.#busy >= this.#options.slots) return undefined
    let best: Seat<C> | undefined
    let bestAt = -1
    let bestPiece = -1
    let fewest = this.#options.incoming
    for (let at = 0; at < asking.length; at++) {
      const seat = asking[at]
      if (!seat) continue
      const incoming = seat.taken - seat.held
      if (incoming >= fewest) continue
      const piece = this.#choose(seat)
      if (piece < 0) continue
      best = seat
      bestAt = at
      bestPiece = piece
      fewest = incoming
      if (incoming === 0) break
    }
    if (!best) return undefined
    this.#grant(best, bestPiece, nowMs)
    return { at: bestAt, piece: bestPiece }
  }

  /** All bytes of a given piece went out: its slot is free, the child still owes the confirmation. */
  sent(child: C, piece: number): void {
    const record = this.#children.get(child)
    const at = record?.grants.findIndex((grant) => grant.piece === piece) ?? -1
    const grant = record?.grants[at]
    if (!record || !grant) return
    this.#free(grant)
    if (holds(record, piece)) this.#drop(record, at)
  }

  /** The child couldn't be sent the piece, or found it wrong: it may be given again, unless it told that it comes from elsewhere. */
  failed(child: C, piece: number): void {
    const record = this.#children.get(child)
    const grant = record?.grants.find((one) => one.piece === piece)
    if (record && grant) this.#withdraw(record, grant, grant.coming)
  }

  /** The child told that a piece is on its way to it, from us or from another parent. */
  coming(child: C, piece: number): void {
    const seat = this.#children.get(child)
    if (seat) this.comingTo(seat, piece)
  }

  /** The child told what it holds. */
  confirmed(child: C, from: number, count: number): void {
    const seat = this.#children.get(child)
    if (seat) for (let piece = from; piece < from + count; piece++) this.heldBy(seat, piece)
  }

  /** {@link coming}, by the seat that {@link join} gave. */
  comingTo(seat: Seat<C>, piece: number): void {
    this.#take(seat, piece)
    if (seat.granted === 0) return
    for (const grant of seat.grants) if (grant.piece === piece) grant.coming = true
  }

  /** {@link confirmed}, by the seat that {@link join} gave. */
  heldBy(seat: Seat<C>, piece: number): void {
    if (!add(seat.words, ((piece >>> 5) << 1) + 1, piece)) return
    seat.held++
    this.#take(seat, piece)
    if (seat.granted === 0) return
    const at = seat.grants.findIndex((grant) => grant.piece === piece && !grant.sending)
    if (at >= 0) this.#drop(seat, at)
  }

  /** The child is gone: what it was given and didn't confirm is free again, and it counts as a holder no more. */
  release(child: C): void {
    const record = this.#children.get(child)
    if (!record) return
    for (const grant of record.grants) this.#free(grant)
    for (let at = 0; at < this.#known.length; at++) {
      for (let word = record.words[at << 1] ?? 0; word !== 0; word &= word - 1) this.#lower((at << 5) + lowest(word))
    }
    this.#children.delete(child)
  }

  /** Takes back what children have held unconfirmed for too long. Returns what was taken. */
  expire(nowMs: number): { child: C; piece: number }[] {
    const late: { child: C; piece: number }[] = []
    for (const [child, record] of this.#children) {
      for (const grant of [...record.grants]) {
        if (nowMs - grant.sinceMs < this.#options.confirmMs) continue
        late.push({ child, piece: grant.piece })
        this.#withdraw(record, grant, false)
      }
    }
    return late
  }

  /** The fewest known holders first; among equals by chance, or lower numbers first: the order in which the origin is read. */
  #choose({ words }: Seat<C>): number {
    const known = this.#known
    const spread = this.#spread
    const { random } = this.#options
    let best = -1
    let fewest = 0x10000
    let ties = 0
    for (let at = 0; at < known.length; at++) {
      for (let word = (known[at] ?? 0) & ~(words[at << 1] ?? 0); word !== 0; word &= word - 1) {
        const piece = (at << 5) + lowest(word)
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

  #free(grant: Grant): void {
    if (!grant.sending) return
    grant.sending = false
    this.#busy--
  }

  #withdraw(record: Seat<C>, grant: Grant, keep: boolean): void {
    this.#free(grant)
    this.#drop(record, record.grants.indexOf(grant))
    if (keep || holds(record, grant.piece)) return
    const at = (grant.piece >>> 5) << 1
    record.taken--
    record.words[at] = (record.words[at] ?? 0) & ~(1 << (grant.piece & 31))
    this.#lower(grant.piece)
  }

  #drop(record: Seat<C>, at: number): void {
    record.grants.splice(at, 1)
    record.granted--
  }

  #take(record: Seat<C>, piece: number): void {
    if (!add(record.words, (piece >>> 5) << 1, piece)) return
    record.taken++
    this.#spread[piece] = (this.#spread[piece] ?? 0) + 1
  }

  #grant(record: Seat<C>, piece: number, nowMs: number): void {
    record.grants.push({ piece, sinceMs: nowMs, sending: true, coming: false })
    record.granted++
    this.#take(record, piece)
    this.#busy++
  }

  #lower(piece: number): void {
    this.#spread[piece] = Math.max(0, (this.#spread[piece] ?? 0) - 1)
  }
}

function holds({ words }: Seat<unknown>, piece: number): boolean {
  return ((words[((piece >>> 5) << 1) + 1] ?? 0) & (1 << (piece & 31))) !== 0
}

/** Sets the bit of a piece in word `at`; false when it was set. */
function add(words: Uint32Array, at: number, piece: number): boolean {
  const before = words[at] ?? 0
  const mask = 1 << (piece & 31)
  if ((before & mask) !== 0) return false
  words[at] = before | mask
  return true
}

/** The number of the lowest set bit of a word that isn't 0. */
function lowest(word: number): number {
  return 31 - Math.clz32(word & -word)
}
