/**
 * Pieces that are on their way here and passed on meanwhile. A step of a piece counts as verified if it leads from the table's state before
 * it to the state after it (hash-chain.ts). It may be read before the rest is here.
 */
import { type Link, STATE_BYTES, stateAfter } from '../hash/hash-chain.ts'
import { same } from './piece-table.ts'

/** One piece on its way here. Dispose when its last bytes came, or won't. */
export interface Arrival extends Disposable {
  /** So many bytes of it are here. */
  reached(bytes: number): void
  /** One of its steps was wrong. */
  readonly wrong: boolean
}

/** Hears of each piece of which the first step is right, and again once it is here whole, or isn't coming from where it came. */
export type ArrivalListener = (piece: number, coming: boolean) => void

interface Coming {
  readonly body: Uint8Array
  readonly stepBytes: number
  /** The states after each of its steps; of the last one none. */
  readonly expected: Uint8Array
  /** What was seen to be right: its length, and the state after it. */
  checked: number
  wrong: boolean
  link: Link
  /** Resolves when more of it can be read, or none. */
  grew: PromiseWithResolvers<void> | undefined
}

export class Arrivals {
  readonly #coming = new Map<number, Coming>()
  readonly #listeners = new Set<ArrivalListener>()

  get busy(): boolean {
    return this.#coming.size > 0 || this.#listeners.size > 0
  }

  /** Whether anybody would read a piece before it is whole. */
  get heard(): boolean {
    return this.#listeners.size > 0
  }

  /** Tells of what comes from now on, and of what is coming. Returns the unsubscriber. */
  listen(listener: ArrivalListener): () => void {
    this.#listeners.add(listener)
    for (const [piece, { checked }] of this.#coming) if (checked > 0) listener(piece, true)
    return () => void this.#listeners.delete(listener)
  }

  /** `link` is the piece's as a whole, `expected` the states inside it. Undefined when it comes from elsewhere already. */
  begin(
    piece: number,
    link: Link,
    { stepBytes, expected }: Pick<Coming, 'stepBytes' | 'expected'>,
  ): Arrival | undefined {
    if (this.#coming.has(piece)) return undefined
    const { body } = link
    const coming: Coming = {
      body,
      stepBytes,
      expected,
      checked: 0,
      wrong: false,
      link,
      grew: undefined,
    }
    this.#coming.set(piece, coming)
    return {
      reached: (bytes) => this.#reached(piece, coming, bytes),
      get wrong() {
        return coming.wrong
      },
      [Symbol.dispose]: () => this.#over(piece, coming),
    }
  }

  /** What is left to check of a piece whose bytes are `body`; undefined where nothing was checked. */
  rest(piece: number, body: Uint8Array): Link | undefined {
    const coming = this.#coming.get(piece)
    return coming !== undefined && coming.body === body && coming.checked > 0 ? coming.link : undefined
  }

  /** The whole piece is right, though it isn't stored yet. */
  right(piece: number, body: Uint8Array): void {
    const coming = this.#coming.get(piece)
    if (coming === undefined || coming.body !== body) return
    coming.checked = body.byteLength
    this.#wake(coming)
  }

  /** How many bytes of a piece may be read; undefined when it isn't coming. */
  checked(piece: number): number | undefined {
    return this.#coming.get(piece)?.checked
  }

  /** Resolves once more than `bytes` of a piece that is coming can be read, or it isn't coming any more. */
  async beyond(piece: number, bytes: number): Promise<void> {
    for (let coming = this.#coming.get(piece); coming !== undefined && coming.checked <= bytes; ) {
      coming.grew ??= Promise.withResolvers()
      await coming.grew.promise
      coming = this.#coming.get(piece)
    }
  }

  /** Fills `into` with checked bytes of a piece, from `offset` on; false when these aren't here. */
  read(piece: number, offset: number, into: Uint8Array): boolean {
    const coming = this.#coming.get(piece)
    if (coming === undefined || coming.checked < offset + into.byteLength) return false
    into.set(coming.body.subarray(offset, offset + into.byteLength))
    return true
  }

  /** A piece is here whole, from wherever it came. */
  stored(piece: number): void {
    const coming = this.#coming.get(piece)
    if (coming !== undefined) this.#over(piece, coming)
  }

  /** Nothing arrives any more, and no listener is called. */
  drop(): void {
    this.#listeners.clear()
    for (const [piece, coming] of [...this.#coming]) this.#over(piece, coming)
  }

  #reached(piece: number, coming: Coming, bytes: number): void {
    if (this.#coming.get(piece) !== coming) return
    const { body, stepBytes, expected } = coming
    const before = coming.checked
    // the last step is checked with the piece
    while (coming.checked + stepBytes <= Math.min(bytes, body.byteLength - 1)) {
      const { at } = coming.link
      const step = body.subarray(coming.checked, coming.checked + stepBytes)
      const state = stateAfter({ ...coming.link, body: step, last: false })
      const nth = coming.checked / stepBytes
      // what is wrong is found so again with the piece, and is nothing to wait for
      if (!same(state, expected.subarray(nth * STATE_BYTES, (nth + 1) * STATE_BYTES))) {
        coming.wrong = true
        this.#over(piece, coming, before)
        return
      }
      coming.checked += stepBytes
      coming.link = { ...coming.link, before: state, body: body.subarray(coming.checked), at: at + stepBytes }
    }
    if (coming.checked === before) return
    this.#wake(coming)
    if (before === 0) this.#tell(piece, true)
  }

  /** Listeners were called when `told` bytes were verified. */
  #over(piece: number, coming: Coming, told = coming.checked): void {
    if (this.#coming.get(piece) !== coming) return
    this.#coming.delete(piece)
    this.#wake(coming)
    if (told > 0) this.#tell(piece, false)
  }

  #wake(coming: Coming): void {
    coming.grew?.resolve()
    coming.grew = undefined
  }

  #tell(piece: number, coming: boolean): void {
    for (const listener of this.#listeners) listener(piece, coming)
  }
}
