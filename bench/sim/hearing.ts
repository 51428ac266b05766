/**
 * What children told parents that haven't looked at it yet. A parent hears some nine thousand words a second, and nearly always its uplink
 * is busy and nothing follows from one: all that gathered is heard together, in the order it was told, just before anything is asked of
 * the parent's handout. The outcome is the same, and rows of thousands of parents aren't fetched from memory for one word each.
 */
import type { Handout, Seat } from '../../src/exchange/handout/handout.ts'
import { COMING, HERE, LATE } from './events.ts'
import type { Host, Place } from './host.ts'

/** Words kept for a parent. */
const MOST = 64
/** Numbers of each place in a host's `tells`. */
export const TELLS = 3

export class Hearing {
  /** For each parent its words, each the number of a place and a code: four times the piece, and what is told. */
  #words = new Int32Array(0)
  #counts = new Uint8Array(0)
  /** Parents that would offer something as soon as a child they wait for is ready. */
  #ready = new Uint8Array(0)
  readonly #places: (Place | undefined)[] = []
  readonly #seats: (Seat<number> | undefined)[] = []
  readonly #free: number[] = []

  /** A child took a place at a parent. */
  join(child: Host, parent: Host, seat: Seat<number>): void {
    const number = this.#free.pop() ?? this.#places.length
    const place = { number, parent, seat }
    this.#places[number] = place
    this.#seats[number] = seat
    child.places.set(parent.index, place)
    child.tells.push(parent.index, number, parent.zone === child.zone ? 0 : 1)
  }

  /** It left it. */
  leave(child: Host, { number, parent }: Place): void {
    child.places.delete(parent.index)
    for (let at = 0; at < child.tells.length; at += TELLS) {
      if (child.tells[at + 1] !== number) continue
      child.tells.splice(at, TELLS)
      break
    }
    this.#places[number] = undefined
    this.#seats[number] = undefined
    this.#free.push(number)
  }

  /** Makes room for a parent of this number. */
  add(parent: number): void {
    if (parent < this.#counts.length) return
    const size = Math.max(64, 2 * parent)
    const [words, counts, ready] = [this.#words, this.#counts, this.#ready]
    this.#words = new Int32Array(2 * MOST * size)
    this.#counts = new Uint8Array(size)
    this.#ready = new Uint8Array(size)
    this.#words.set(words)
    this.#counts.set(counts)
    this.#ready.set(ready)
  }

  setReady(parent: number, ready: boolean): void {
    this.#ready[parent] = ready ? 1 : 0
  }

  isReady(parent: number): boolean {
    return this.#ready[parent] === 1
  }

  /** What a child told is kept for the parent that it has a place at. */
  tell(parent: number, place: number, code: number): void {
    if (this.#counts[parent] === MOST) {
      const full = this.#places[place]
      if (full) this.handoutOf(full.parent)
    }
    const count = this.#counts[parent] ?? 0
    const at = 2 * (parent * MOST + count)
    this.#words[at] = place
    this.#words[at + 1] = code
    this.#counts[parent] = count + 1
  }

  /** A parent's handout, once it heard all that was told to it. */
  handoutOf({ index, handout }: Host): Handout<number> {
    if (this.#counts[index] !== 0) this.#catchUp(index, handout)
    return handout
  }

  #catchUp(parent: number, handout: Handout<number>): void {
    const count = this.#counts[parent] ?? 0
    this.#counts[parent] = 0
    const words = this.#words
    const end = 2 * (parent * MOST + count)
    for (let at = 2 * parent * MOST; at < end; at += 2) {
      const seat = this.#seats[words[at] ?? 0]
      if (!seat) continue
      const code = words[at + 1] ?? 0
      const what = code & 3
      if (what === HERE) handout.holds(seat, code >> 2)
      else if (what === COMING || what === LATE) handout.coming(seat, code >> 2)
      else handout.lost(seat, code >> 2)
    }
  }
}
