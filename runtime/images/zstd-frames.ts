/**
 * Cuts a zstd stream into its frames (RFC 8878, 3.1). Node's decoder takes one frame and doesn't notice when it is cut, but
 * layers may be many frames with skippable ones between (zstd:chunked, pzstd). Only headers are looked at, so this costs nothing.
 */
import { DarnerError } from '../../src/core/errors.ts'

/** A run of bytes of one data frame; `last` marks its end. Skippable frames are left out. */
export interface FramePart {
  readonly bytes: Uint8Array
  readonly last: boolean
}

/** Frame headers come out as a part of their own, put together when chunk bounds cut them. */

const MAGIC = 0xfd2fb528
const SKIPPABLE = 0x184d2a50
const ID_BYTES = [0, 1, 2, 4] as const
const SIZE_BYTES = [0, 2, 4, 8] as const

type Wanted = 'frame' | 'block' | 'body' | 'skip'

export class FrameCutter {
  #wanted: Wanted = 'frame'
  /** Bytes of a header that isn't whole yet. */
  #head: number[] = []
  #left = 0
  #lastBlock = false
  #checksum = false

  /** Throws LAYER_INVALID when the stream ended inside a frame. */
  finish(): void {
    if (this.#wanted !== 'frame' || this.#head.length > 0) throw invalid('its zstd data is cut')
  }

  /** Takes the next bytes. Throws LAYER_INVALID for what is no zstd. */
  *push(chunk: Uint8Array): Generator<FramePart> {
    let from = 0 // start of what is not handed on yet
    let at = 0
    while (at < chunk.byteLength) {
      if (this.#wanted === 'frame') {
        this.#head.push(chunk[at++] ?? 0)
        from = at
        const header = this.#frameHeader()
        if (header !== undefined) yield { bytes: header, last: false }
      } else if (this.#wanted === 'block') {
        this.#head.push(chunk[at++] ?? 0)
        this.#blockHeader()
        if (this.#isBefore('frame')) {
          yield { bytes: chunk.subarray(from, at), last: true }
          from = at
        }
      } else {
        const take = Math.min(this.#left, chunk.byteLength - at)
        this.#left -= take
        at += take
        if (this.#wanted === 'skip') from = at
        if (this.#left > 0) break
        const ended = this.#wanted === 'body' && this.#lastBlock
        if (ended) yield { bytes: chunk.subarray(from, at), last: true }
        if (ended) from = at
        this.#wanted = this.#wanted === 'skip' || ended ? 'frame' : 'block'
      }
    }
    if (from < at) yield { bytes: chunk.subarray(from, at), last: false }
  }

  /** The header's bytes once a data frame's header is whole. */
  #frameHeader(): Uint8Array | undefined {
    const head = this.#head
    if (head.length < 5) return undefined
    const magic = little(head, 0, 4)
    if ((magic & ~0xf) >>> 0 === SKIPPABLE) {
      if (head.length < 8) return undefined
      this.#left = little(head, 4, 4)
      this.#head = []
      this.#wanted = this.#left === 0 ? 'frame' : 'skip'
      return undefined
    }
    if (magic !== MAGIC) throw invalid('its zstd data is damaged: no frame where one should begin')
    const descriptor = head[4] ?? 0
    const single = (descriptor & 0x20) !== 0
    const sizeBytes = SIZE_BYTES[(descriptor >> 6) & 3] || (single ? 1 : 0)
    if (head.length < 5 + (single ? 0 : 1) + (ID_BYTES[descriptor & 3] ?? 0) + sizeBytes) return undefined
    this.#checksum = (descriptor & 4) !== 0
    this.#head = []
    this.#wanted = 'block'
    return Uint8Array.from(head)
  }

  #blockHeader(): void {
    if (this.#head.length < 3) return
    const header = little(this.#head, 0, 3)
    this.#head = []
    this.#lastBlock = (header & 1) !== 0
    const type = (header >> 1) & 3
    if (type === 3) throw invalid('its zstd data is damaged: a block of a reserved type')
    this.#left = (type === 1 ? 1 : header >> 3) + (this.#lastBlock && this.#checksum ? 4 : 0)
    this.#wanted = this.#left > 0 ? 'body' : this.#lastBlock ? 'frame' : 'block'
  }

  #isBefore(wanted: Wanted): boolean {
    return this.#wanted === wanted
  }
}

function little(bytes: readonly number[], from: number, count: number): number {
  let value = 0
  for (let at = count - 1; at >= 0; at--) value = value * 256 + (bytes[from + at] ?? 0)
  return value
}

function invalid(why: string): DarnerError {
  return new DarnerError('LAYER_INVALID', `layer: ${why}`)
}
