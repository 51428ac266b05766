/** A way to hold an unpacked layer on disk. */
import type { LayerSink } from './layer-sink.ts'

/** Facts of its own that a format keeps in the layer's record. */
export type FormatRecord = Readonly<Record<string, unknown>>

export interface OpenLayer extends LayerSink, AsyncDisposable {
  /** All steps came: finish the files and make them durable. `bytes` is what they take on disk. */
  seal(options: { signal: AbortSignal }): Promise<{ bytes: number; format: FormatRecord }>
}

export interface LayerFormat {
  readonly kind: 'erofs' | 'directory'
  /** Starts a layer in the empty folder `staging`; `name` is its stable name, 32 hex digits or more. */
  open(staging: string, name: string): Promise<OpenLayer>
}
