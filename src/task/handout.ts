/**
 * What a seed gives to whom. A seed announces nothing: a child asks for "any" piece and the seed chooses, so that each piece
 * leaves it once before any leaves twice, and afterwards the one with the fewest known holders goes first.
 *
 * Pure: no clock, no I/O. The caller owns the waiting: it calls {@link Handout.next} for its waiting children in the order
 * they asked, again after each `known`, `sent`, `confirmed`, `release` or `expire`.
 */
import { Bitmap, type ReadonlyBitmap } from './bitmap.ts'

export interface HandoutOptions {
  /** Pieces being sent at once, over all children. Two keep a link busy; more delays each piece (docs/scheduling.md). */
  readonly slots: number
  /** A piece that its child hasn't confirmed this long after it was given counts as lost, and its slot as free. */
  readonly confirmMs: number
}

export const HANDOUT_DEFAULTS: HandoutOptions = { slots: 2, confirmMs: 5_000 }

interface Grant {
  readonly piece: number
  readonly sinceMs: number
  /** Still holds an upload slot. */
  sending: boolean
}

interface Child {
  readonly have: Bitmap
  readonly grants: Map<number, Grant>
}

/** The handout of one task. `C` names a child: a peer id, or a number in the simulator. */
export class Handout<C> {
  readonly #options: HandoutOptions
  readonly #known: Bitmap
  /** Children known to hold a piece, plus grants under way. */
  readonly #spread: Uint16Array
  readonly #children = new Map<C, Child>()
  /** First known piece that was never given; all before it have spread or were asked for at least once. */
  #fresh = 0
  #busy = 0

  constructor(pieces: number, options: HandoutOptions = HANDOUT_DEFAULTS) {
    this.#options = options
    this.#known = new Bitmap(pieces)
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
    this.#known.addRange(from, count)
    if (from < this.#fresh) this.#fresh = from
  }

  /** A child opened the task, holding `have`. */
  join(child: C, have: ReadonlyBitmap): void {
    this.release(child)
    const record: Child = { have: new Bitmap(have.size), grants: new Map() }
    this.#children.set(child, record)
    for (const [from, count] of have.ranges()) this.confirmed(child, from, count)
  }

  /** The piece to give to this child now; `wait` while there is none to give yet, `none` once it needs nothing more. */
  next(child: C, nowMs: number): number | 'wait' | 'none' {
    const record = this.#children.get(child)
    if (!record || record.have.count + record.grants.size >= record.have.size) {
      return record && !record.have.full ? 'wait' : 'none'
    }
    if (this.#busy >= this.#options.slots) return 'wait'
    const piece = this.#choose(record)
    if (piece < 0) return 'wait'
    record.grants.set(piece, { piece, sinceMs: nowMs, sending: true })
    this.#spread[piece] = (this.#spread[piece] ?? 0) + 1
    this.#busy++
    return piece
  }

  /** All bytes of a given piece went out: its slot is free, the child still owes the confirmation. */
  sent(child: C, piece: number): void {
    const grant = this.#children.get(child)?.grants.get(piece)
    if (grant) this.#free(grant)
  }

  /** The child couldn't be sent the piece, or found it wrong: it may be given again. */
  failed(child: C, piece: number): void {
    const record = this.#children.get(child)
    const grant = record?.grants.get(piece)
    if (record && grant) this.#withdraw(record, grant)
  }

  /** The child told what it holds. */
  confirmed(child: C, from: number, count: number): void {
    const record = this.#children.get(child)
    if (!record) return
    for (let piece = from; piece < from + count; piece++) {
      if (!record.have.add(piece)) continue
      const grant = record.grants.get(piece)
      if (grant) {
        this.#free(grant)
        record.grants.delete(piece)
      } else this.#spread[piece] = (this.#spread[piece] ?? 0) + 1
    }
  }

  /** The child is gone: what it was given and didn't confirm is free again, and it counts as a holder no more. */
  release(child: C): void {
    const record = this.#children.get(child)
    if (!record) return
    for (const grant of record.grants.values()) this.#withdraw(record, grant)
    for (const [from, count] of record.have.ranges()) {
      for (let piece = from; piece < from + count; piece++) this.#lower(piece)
    }
    this.#children.delete(child)
  }

  /** Takes back what children have held unconfirmed for too long. Returns what was taken. */
  expire(nowMs: number): { child: C; piece: number }[] {
    const late: { child: C; piece: number }[] = []
    for (const [child, record] of this.#children) {
      for (const grant of record.grants.values()) {
        if (nowMs - grant.sinceMs < this.#options.confirmMs) continue
        late.push({ child, piece: grant.piece })
        this.#withdraw(record, grant)
      }
    }
    return late
  }

  /** The fewest known holders first, lower numbers first among equals: the order in which the origin is read. */
  #choose(record: Child): number {
    for (let piece = this.#known.nextSet(this.#fresh); piece >= 0; piece = this.#known.nextSet(piece + 1)) {
      if (this.#spread[piece] === 0) {
        // A piece below that only this child lacks a need for stays fresh for the others.
        if (!record.have.has(piece)) return piece
      } else if (piece === this.#fresh) this.#fresh++
    }
    let best = -1
    let fewest = Number.POSITIVE_INFINITY
    for (let piece = record.have.nextClear(0); piece >= 0; piece = record.have.nextClear(piece + 1)) {
      const spread = this.#spread[piece] ?? 0
      if (spread >= fewest || !this.#known.has(piece) || record.grants.has(piece)) continue
      best = piece
      fewest = spread
    }
    return best
  }

  #free(grant: Grant): void {
    if (!grant.sending) return
    grant.sending = false
    this.#busy--
  }

  #withdraw(record: Child, grant: Grant): void {
    this.#free(grant)
    record.grants.delete(grant.piece)
    this.#lower(grant.piece)
  }

  #lower(piece: number): void {
    const spread = (this.#spread[piece] ?? 0) - 1
    this.#spread[piece] = Math.max(0, spread)
    if (spread <= 0 && piece < this.#fresh) this.#fresh = piece
  }
}
