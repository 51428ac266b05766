/** Piece sets as 32-bit words, for the inner loops of the plan: piece `n` is bit `n & 31` of word `n >> 5`. */
import type { ReadonlyBitmap } from '../../src/core/task/bitmap.ts'

export type Words = Uint32Array

export function wordsFor(pieces: number): Words {
  return new Uint32Array((pieces + 31) >>> 5)
}

export function hasBit(words: Words, piece: number): boolean {
  return ((words[piece >>> 5] ?? 0) & (1 << (piece & 31))) !== 0
}

/** Sets a bit; false when it was set. */
export function setBit(words: Words, piece: number): boolean {
  const at = piece >>> 5
  const before = words[at] ?? 0
  const mask = 1 << (piece & 31)
  words[at] = before | mask
  return (before & mask) === 0
}

export function clearBit(words: Words, piece: number): void {
  const at = piece >>> 5
  words[at] = (words[at] ?? 0) & ~(1 << (piece & 31))
}

export function setFrom(words: Words, map: ReadonlyBitmap): void {
  for (const [from, count] of map.ranges()) for (let piece = from; piece < from + count; piece++) setBit(words, piece)
}
