/**
 * Pieces of a half-done task that came by a fetch which is over. The next fetch may get other digests, because the earlier read was given
 * up as wrong. Each piece counts again once its digest is confirmed; until then it is invisible.
 */
import { DIGEST_BYTES, same } from './piece-table.ts'

export class SetAside {
  /** What each hashes to; undefined where nobody has looked. */
  readonly #digests = new Map<number, Uint8Array | undefined>()
  /** Those that only {@link told} releases. */
  readonly #withheld = new Set<number>()
  #regained = 0

  get count(): number {
    return this.#digests.size
  }

  /** How many have come to count again. */
  get regained(): number {
    return this.#regained
  }

  has(piece: number): boolean {
    return this.#digests.has(piece)
  }

  put(piece: number, digest: Uint8Array | undefined): void {
    this.#digests.set(piece, digest?.slice())
  }

  /** Those that nobody has looked at. */
  unknown(): number[] {
    return [...this.#digests].flatMap(([piece, digest]) => (digest === undefined ? [piece] : []))
  }

  /** Others come in their place. */
  drop(piece: number, count: number): void {
    if (this.#digests.size === 0) return
    for (let at = piece; at < piece + count; at++) this.#takeOut(at)
  }

  /** From now on {@link takeAll} leaves those that are set aside. The result takes them out nevertheless, those that are still here. */
  withhold(): () => [piece: number, digest: Uint8Array | undefined][] {
    const pieces = this.#free()
    for (const piece of pieces) this.#withheld.add(piece)
    return () => this.#regain(pieces.filter((piece) => this.#withheld.has(piece)))
  }

  /** Takes out the pieces whose digests arrived, 32 bytes each from piece `from` on: those that agree, and those that don't. */
  told(from: number, digests: Uint8Array): { right: number[]; wrong: number[] } {
    const right: number[] = []
    const wrong: number[] = []
    for (let at = 0; at < digests.byteLength && this.#digests.size > 0; at += DIGEST_BYTES) {
      const piece = from + at / DIGEST_BYTES
      if (!this.#digests.has(piece)) continue
      const digest = this.#digests.get(piece)
      this.#takeOut(piece)
      const agrees = digest !== undefined && same(digest, digests.subarray(at, at + DIGEST_BYTES))
      ;(agrees ? right : wrong).push(piece)
    }
    this.#regained += right.length
    return { right, wrong }
  }

  /** Takes out all of them but what is withheld, to count again unasked. */
  takeAll(): [piece: number, digest: Uint8Array | undefined][] {
    return this.#regain(this.#free())
  }

  #free(): number[] {
    return [...this.#digests.keys()].filter((piece) => !this.#withheld.has(piece))
  }

  #regain(pieces: readonly number[]): [piece: number, digest: Uint8Array | undefined][] {
    this.#regained += pieces.length
    return pieces.map((piece) => {
      const digest = this.#digests.get(piece)
      this.#takeOut(piece)
      return [piece, digest]
    })
  }

  #takeOut(piece: number): void {
    this.#digests.delete(piece)
    this.#withheld.delete(piece)
  }
}
