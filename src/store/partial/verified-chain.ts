/**
 * Which pieces of a task lead from the table's state before them to the one after (hash-chain.ts). Once all do, the last state is the
 * digest of the whole, and nothing is read again. Of what comes from an origin in order the states are established here.
 */
import { algorithmOf, type Digest } from '../../core/digest.ts'
import { Bitmap } from '../../core/task/bitmap.ts'
import { pieceCount, STEPS_BYTES, stepBytesOf, type Task } from '../../core/task/task.ts'
import {
  BLOCK_BYTES,
  chains,
  FIRST_STATE,
  type Link,
  STATE_BYTES,
  stateAfter,
  stateAfterAside,
} from '../hash/hash-chain.ts'
import { POOL_FROM_BYTES } from '../hash/hasher.ts'
import type { Arrivals } from './arrivals.ts'
import { type PieceTable, same } from './piece-table.ts'

export interface LinksParts {
  /** The table as it is now. */
  readonly table: () => PieceTable
  readonly arrivals: Arrivals
}

export class Links {
  readonly #task: Task
  readonly #parts: LinksParts
  readonly #made: Bitmap
  readonly #able: boolean
  #needed = true
  /** The end of those that are being made, one after the other. */
  #making: Promise<unknown> = Promise.resolve()

  constructor(task: Task, parts: LinksParts) {
    this.#task = task
    this.#parts = parts
    this.#made = new Bitmap(pieceCount(task))
    const sha256 = task.digest === undefined || algorithmOf(task.digest) === 'sha256'
    this.#able = chains && sha256 && task.pieceBytes % BLOCK_BYTES === 0
  }

  /** Pieces that were noted to lead on. */
  get count(): number {
    return this.#made.count
  }

  /** The whole is hashed in another way, and links are of no use. */
  unneeded(): void {
    this.#needed = false
  }

  /** The way that a piece's bytes lead; undefined where the state before isn't known, or of no use. */
  of(piece: number, body: Uint8Array): Link | undefined {
    if (!this.#able || !this.#needed) return undefined
    const { bytes, pieceBytes } = this.#task
    const before = piece === 0 ? FIRST_STATE : this.#parts.table().state(piece - 1)
    const at = piece * pieceBytes
    return before && { before, body, at, last: at + body.byteLength === bytes }
  }

  /** Whether a piece's bytes lead from a known state to a known state. */
  async leads(piece: number, body: Uint8Array): Promise<boolean> {
    const { table, arrivals } = this.#parts
    const known = table().state(piece)
    const link = known && (arrivals.rest(piece, body) ?? this.of(piece, body))
    if (known === undefined || link === undefined) return false
    const state = link.body.byteLength < POOL_FROM_BYTES ? stateAfter(link) : await stateAfterAside(link)
    if (!same(known, state)) return false
    arrivals.right(piece, body)
    return true
  }

  /**
   * As {@link leads}, but that the state after is established if it isn't known, with those inside: one piece after the other. Undefined where the
   * one before isn't known.
   */
  extend(piece: number, body: Uint8Array): Promise<boolean | undefined> {
    const extending = this.#making.then(() => this.#extend(piece, body))
    this.#making = extending.catch(() => {})
    return extending
  }

  async #extend(piece: number, body: Uint8Array): Promise<boolean | undefined> {
    const link = this.of(piece, body)
    if (link === undefined) return undefined
    const table = this.#parts.table()
    const stepBytes = table.state(piece) === undefined ? stepBytesOf(this.#task) : undefined
    const inside = new Uint8Array(STEPS_BYTES)
    let rest = link
    for (let at = 0; stepBytes !== undefined && rest.body.byteLength > stepBytes; at += STATE_BYTES) {
      const before = await stateAfterAside({ ...rest, body: rest.body.subarray(0, stepBytes), last: false })
      inside.set(before, at)
      rest = { ...rest, before, body: rest.body.subarray(stepBytes), at: rest.at + stepBytes }
    }
    const state = await stateAfterAside(rest)
    const known = table.state(piece)
    if (known !== undefined) return same(known, state)
    if (stepBytes !== undefined) table.setSteps(piece, inside)
    table.setStates(piece, state)
    return true
  }

  /** A piece that leads on is stored. */
  made(piece: number): void {
    this.#made.add(piece)
  }

  /** The digest of the whole, where each piece led from one state to the next. */
  get proven(): Digest | undefined {
    const digest = this.#made.full ? this.#parts.table().state(this.#made.size - 1) : undefined
    return digest && (`sha256:${Buffer.from(digest).toString('hex')}` as Digest)
  }
}
