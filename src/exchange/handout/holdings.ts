/**
 * What a parent may give of one task, and what each of its children has of it. Children have places, numbers from 1 on, in one table. It
 * has a row for each 32 pieces, with two words for the parent and two for each child. All of a mesh are at the same few pieces, so that
 * what is looked at lies together.
 */
import { type Random, randomBelow } from '../../core/clock.ts'

/** The parent's own place: what may be given, and what is coming and may be passed on meanwhile. */
const OWN = 0
const FIRST_PLACES = 8
const GROWTH = 1.5

/** Four numbers for each place: how many pieces the child has or is getting, and how many it has… */
const TAKEN = 0
const HELD = 1
/** …how many of those that may be given it neither has nor is getting, and the first row that may have some for it. */
const LACKS = 2
const FROM = 3

export interface Choice {
  /** The lowest number; else the fewest holders. */
  readonly lowest: boolean
  /** Also what is only coming. */
  readonly early: boolean
  /** Chance for ties; without it lower numbers go first. */
  readonly random: Random | undefined
}

export class Holdings {
  readonly #rows: number
  /** Of a place in a row: what it has or is getting, from us or from others; and what it reported as here. */
  #words: Uint32Array
  #counts: Int32Array
  #places = FIRST_PLACES
  #used = 1
  readonly #free: number[] = []
  /** Children that have each piece or are getting it. */
  readonly #spread: Uint16Array
  /** Rows from here on have nothing to give. */
  #end = 0
  #lacks = 0

  constructor(pieces: number) {
    this.#rows = (pieces + 31) >>> 5
    this.#words = new Uint32Array(2 * this.#places * this.#rows)
    this.#counts = new Int32Array(4 * this.#places)
    this.#spread = new Uint16Array(pieces)
  }

  /** How many pieces that may be given the children lack, together. */
  get lacks(): number {
    return this.#lacks
  }

  /** A piece may be given from now on. */
  known(piece: number): void {
    const own = this.#at(OWN, piece)
    if (!setBit(this.#words, own, piece)) return
    this.#end = Math.max(this.#end, (piece >>> 5) + 1)
    for (let place = 1; place < this.#used; place++) {
      if (hasBit(this.#words, own + 2 * place, piece)) continue
      this.#lack(place, 1)
      this.#lookFrom(place, piece)
    }
  }

  /** It may be passed on while it comes, or isn't coming any more. */
  arriving(piece: number, coming: boolean): void {
    const at = this.#at(OWN, piece) + 1
    if (!coming) {
      clearBit(this.#words, at, piece)
      return
    }
    setBit(this.#words, at, piece)
    this.#end = Math.max(this.#end, (piece >>> 5) + 1)
    for (let place = 1; place < this.#used; place++) this.#lookFrom(place, piece)
  }

  /** A place for a child that has nothing. */
  join(): number {
    const place = this.#free.pop() ?? this.#used++
    if (place >= this.#places) this.#grow()
    this.#counts.fill(0, 4 * place, 4 * place + 4)
    for (let row = 0; row < this.#rows; row++) {
      const own = 2 * this.#places * row
      this.#words.fill(0, own + 2 * place, own + 2 * place + 2)
      for (let word = this.#words[own] ?? 0; word !== 0; word &= word - 1) this.#lack(place, 1)
    }
    return place
  }

  /** A child is gone: it counts as a holder no more. */
  leave(place: number): void {
    this.#lacks -= this.lacking(place)
    for (let row = 0; row < this.#rows; row++) {
      const at = 2 * (this.#places * row + place)
      for (let word = this.#words[at] ?? 0; word !== 0; word &= word - 1) this.#lower((row << 5) + lowest(word))
      // a place that is free lacks nothing
      this.#words[at] = 0xffffffff
    }
    this.#free.push(place)
  }

  /** How many pieces a child has. */
  held(place: number): number {
    return this.#counts[4 * place + HELD] ?? 0
  }

  /** How many are on their way to it. */
  incoming(place: number): number {
    return (this.#counts[4 * place + TAKEN] ?? 0) - this.held(place)
  }

  /** How many that may be given it neither has nor is getting. */
  lacking(place: number): number {
    return this.#counts[4 * place + LACKS] ?? 0
  }

  isHeld(place: number, piece: number): boolean {
    return hasBit(this.#words, this.#at(place, piece) + 1, piece)
  }

  /** A child has a piece or is getting it. */
  take(place: number, piece: number): void {
    if (!setBit(this.#words, this.#at(place, piece), piece)) return
    this.#count(place, TAKEN, 1)
    if (hasBit(this.#words, this.#at(OWN, piece), piece)) this.#lack(place, -1)
    this.#spread[piece] = (this.#spread[piece] ?? 0) + 1
  }

  /** It isn't getting it after all. */
  untake(place: number, piece: number): void {
    const at = this.#at(place, piece)
    if (hasBit(this.#words, at + 1, piece) || !hasBit(this.#words, at, piece)) return
    clearBit(this.#words, at, piece)
    this.#count(place, TAKEN, -1)
    if (hasBit(this.#words, this.#at(OWN, piece), piece)) this.#lack(place, 1)
    this.#lookFrom(place, piece)
    this.#lower(piece)
  }

  /** It has it. False when that was known. */
  hold(place: number, piece: number): boolean {
    if (!setBit(this.#words, this.#at(place, piece) + 1, piece)) return false
    this.#count(place, HELD, 1)
    this.take(place, piece)
    return true
  }

  /** A piece that a child lacks: of the fewest known holders, among equals by chance or the lowest number. -1 when there is none. */
  choose(place: number, { lowest: first, early, random }: Choice): number {
    const spread = this.#spread
    let best = -1
    let fewest = 0x10000
    let ties = 0
    for (let row = this.#firstRow(place); row < this.#end; row++) {
      for (let word = this.#lackedOf(place, row, early); word !== 0; word &= word - 1) {
        const piece = (row << 5) + lowest(word)
        if (first) return piece
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

  /** The first row that has something for a child, be it only coming. */
  #firstRow(place: number): number {
    let row = this.#counts[4 * place + FROM] ?? 0
    while (row < this.#end && this.#lackedOf(place, row, true) === 0) row++
    this.#counts[4 * place + FROM] = row
    return row
  }

  /** What a child lacks of a row that may be given. */
  #lackedOf(place: number, row: number, early: boolean): number {
    const own = 2 * this.#places * row
    const may = (this.#words[own] ?? 0) | (early ? (this.#words[own + 1] ?? 0) : 0)
    return may & ~(this.#words[own + 2 * place] ?? 0)
  }

  /** Where the first word of a place is for a piece. */
  #at(place: number, piece: number): number {
    return 2 * (this.#places * (piece >>> 5) + place)
  }

  #lookFrom(place: number, piece: number): void {
    const at = 4 * place + FROM
    this.#counts[at] = Math.min(this.#counts[at] ?? 0, piece >>> 5)
  }

  #count(place: number, what: number, more: number): void {
    this.#counts[4 * place + what] = (this.#counts[4 * place + what] ?? 0) + more
  }

  #lack(place: number, more: number): void {
    this.#count(place, LACKS, more)
    this.#lacks += more
  }

  #lower(piece: number): void {
    this.#spread[piece] = Math.max(0, (this.#spread[piece] ?? 0) - 1)
  }

  #grow(): void {
    const before = 2 * this.#places
    const words = this.#words
    const counts = this.#counts
    this.#places = Math.ceil(this.#places * GROWTH)
    this.#words = new Uint32Array(2 * this.#places * this.#rows)
    for (let row = 0; row < this.#rows; row++)
      this.#words.set(words.subarray(before * row, before * (row + 1)), 2 * this.#places * row)
    this.#counts = new Int32Array(4 * this.#places)
    this.#counts.set(counts)
  }
}

/** Whether the bit of a piece in word `at` is set. */
function hasBit(words: Uint32Array, at: number, piece: number): boolean {
  return ((words[at] ?? 0) & (1 << (piece & 31))) !== 0
}

/** Sets the bit of a piece in word `at`; false when it was set. */
function setBit(words: Uint32Array, at: number, piece: number): boolean {
  const before = words[at] ?? 0
  const mask = 1 << (piece & 31)
  if ((before & mask) !== 0) return false
  words[at] = before | mask
  return true
}

function clearBit(words: Uint32Array, at: number, piece: number): void {
  words[at] = (words[at] ?? 0) & ~(1 << (piece & 31))
}

/** The number of the lowest set bit of a word that isn't 0. */
function lowest(word: number): number {
  return 31 - Math.clz32(word & -word)
}
