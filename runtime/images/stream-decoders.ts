/** Decoding by Node's own streams, where openDecoder has no way. */
import { type Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { DarnerError } from '../../src/core/errors.ts'
import { FrameCutter } from './zstd-frames.ts'

/** A daemon's memory from 128 KiB on is mapped for each block and given back with it (lean-process.ts), which costs page faults. */
const CHUNK_BYTES = 112 * 1024
/** Decompressed ahead of the reader: decoding goes on meanwhile on a thread of its own. */
const AHEAD_BYTES = 1024 * 1024
const DECODER = { chunkSize: CHUNK_BYTES, readableHighWaterMark: AHEAD_BYTES } as const

/** `source` may lend its chunks; these are the reader's. Throws as `decompress` does. */
export function expandByStreams(
  source: AsyncIterable<Uint8Array>,
  compression: 'gzip' | 'zstd',
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const kept = copies(source)
  return compression === 'gzip' ? through(kept, createGunzip(DECODER), 'gzip', signal) : expandFrames(kept, signal)
}

/** A stream takes more before it is done with what it has. */
async function* copies(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) yield new Uint8Array(chunk)
}

/** One decoder per frame; a source that ends inside a frame is cut. */
async function* expandFrames(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const cutter = new FrameCutter()
  const parts = (async function* () {
    for await (const chunk of source) yield* cutter.push(chunk)
    cutter.finish()
  })()
  try {
    for (let first = await parts.next(); !first.done; first = await parts.next()) {
      const start = first.value
      const frame = (async function* () {
        yield start.bytes
        for (let last = start.last; !last; ) {
          const next = await parts.next()
          if (next.done) return
          last = next.value.last
          yield next.value.bytes
        }
      })()
      yield* through(frame, createZstdDecompress(DECODER), 'zstd', signal)
    }
  } finally {
    await parts.return(undefined)
  }
}

async function* through(
  source: AsyncIterable<Uint8Array>,
  engine: Duplex,
  compression: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let sourceError: unknown
  const guarded = (async function* () {
    try {
      yield* source
    } catch (error) {
      sourceError = error
      throw error
    }
  })()
  const flowing = pipeline(Readable.from(guarded, { objectMode: false, highWaterMark: CHUNK_BYTES }), engine, {
    signal,
  })
  // its failure also ends the iteration below, which reports it
  flowing.catch(() => {})
  try {
    for await (const chunk of engine) yield chunk as Uint8Array
    await flowing
  } catch (error) {
    if (signal.aborted) throw signal.reason
    if (sourceError !== undefined) throw sourceError
    // the decoder found its end before the source did: what follows a gzip member is not looked at, the DiffID is
    if (
      error instanceof Error &&
      'code' in error &&
      error.code === 'ERR_STREAM_PREMATURE_CLOSE' &&
      engine.readableEnded
    )
      return
    throw translate(error, compression)
  } finally {
    engine.destroy()
  }
}

function translate(error: unknown, compression: string): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (!/^(Z_|ZSTD_|ERR_ZSTD|ERR_ZLIB)/.test(code)) return error
  return new DarnerError(
    'LAYER_INVALID',
    `layer: its ${compression} data is damaged or cut: ${(error as Error).message}`,
    { cause: error },
  )
}
