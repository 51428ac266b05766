/** Where the bytes of one content go: a file that appears under its name only whole, or a stream that takes them in order. */
import type { Version } from '../../core/contracts/origin.ts'
import type { Note } from './draft-notes.ts'

export interface Target extends AsyncDisposable {
  /** What it is called in messages. */
  readonly name: string
  /** Takes bytes only from first to last, and none twice: a stream. */
  readonly inOrder: boolean
  /**
   * What an earlier run left of the same content, checked; `seen` gets its bytes. Writing goes on behind it. Undefined where
   * nothing of use was left.
   */
  kept(key: string, seen: (bytes: Uint8Array) => void): Promise<{ bytes: number; version: Version } | undefined>
  /** All that was written is void; what follows is of this content. Throws ORIGIN_CHANGED where bytes can't be taken back. */
  restart(note?: Note): Promise<void>
  /** Bytes in order go behind those before; with `offset`, there. */
  write(bytes: Uint8Array, offset?: number): void | Promise<void>
  /** All of an open file at once, instead of {@link write}; false where that can't be, and nothing was done. */
  clone(from: number): boolean
  /** Makes it visible under its name; `mtimeMs` is the time that it gets, in epoch milliseconds. */
  finish(options: { mtimeMs: number | undefined }): Promise<void>
  /** What is there may be of use to a later run: it stays when this is closed unfinished. */
  keep(): void
}
