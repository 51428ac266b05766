/** A way to hold an unpacked layer on disk. */
import type { LayerSink } from './layer-sink.ts'

/** Facts of its own that a format keeps in the layer's record. */
export type FormatRecord = Readonly<Record<string, unknown>>
/** What a format knows of a layer that is written and not sealed yet: plain data, since it may come from another thread. */
export type Written = Readonly<Record<string, unknown>>

export interface OpenLayer extends LayerSink, AsyncDisposable {
  /** All steps came: everything is written, though not durable yet. `name` is the layer's stable name, 32 hex digits or more. */
  finish(options: { name: string }): Promise<Written>
}

export interface LayerFormat {
  readonly kind: 'erofs' | 'directory'
  /** Starts a layer in the empty folder `staging`. */
  open(staging: string): Promise<OpenLayer>
  /**
   * Finishes the files of a written layer. `bytes` is what they take on disk. Nothing goes on in the folder when this throws, nor once
   * `durable` is settled, which says that the files are.
   */
  seal(
    staging: string,
    written: Written,
    options: { signal: AbortSignal },
  ): Promise<{ bytes: number; format: FormatRecord; durable: Promise<void> }>
}
