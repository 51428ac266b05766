/** Turns a layer blob as it arrives into its tar stream. Chunks are bounded, and reading slowly slows the source. */
import { type Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { DarnerError } from '../../src/base/errors.ts'
import type { Compression } from '../../src/oci/media-types.ts'
import { FrameCutter } from './zstd-frames.ts'

/**
 * A daemon's memory from 128 KiB on is mapped for each block and given back with it (lean-process.ts), and with chunks that long a
 * third of decoding zstd went into page faults.
 */
const CHUNK_BYTES = 112 * 1024
/** Decompressed ahead of who reads: decoding goes on meanwhile on a thread of its own. */
const AHEAD_BYTES = 1024 * 1024
const MAGIC_BYTES = 4
const DECODER = { chunkSize: CHUNK_BYTES, readableHighWaterMark: AHEAD_BYTES } as const

/**
 * The uncompressed bytes of `source`. What it is is told by its first bytes, as in other engines: many a layer is not what its
 * media type says, and the DiffID guards the result anyway. Throws LAYER_INVALID for damaged or cut data, else what the source threw.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  { signal }: { signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const bytes = source[Symbol.asyncIterator]()
  try {
    const head = await readHead(bytes)
    const compression = compressionOf(head)
    const whole = rejoin(head, bytes)
    if (compression === 'none') yield* whole
    else if (compression === 'gzip') yield* expand(whole, signal)
    else yield* expandFrames(whole, signal)
  } finally {
    await bytes.return?.()
  }
}

/** By magic number: gzip (RFC 1952, 2.3.1), zstd (RFC 8878, 3.1.1), anything else plain. */
export function compressionOf(head: Uint8Array): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip'
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return 'zstd'
  if (((head[0] ?? 0) & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18) return 'zstd'
  return 'none'
}

async function* expand(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  yield* through(source, createGunzip(DECODER), 'gzip', signal)
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
  // its failure also ends the iteration below, which is where it is told
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

async function readHead(bytes: AsyncIterator<Uint8Array>): Promise<Uint8Array> {
  let head: Uint8Array = new Uint8Array(0)
  while (head.byteLength < MAGIC_BYTES) {
    const next = await bytes.next()
    if (next.done) break
    head = head.byteLength === 0 ? next.value : Buffer.concat([head, next.value])
  }
  return head
}

async function* rejoin(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.byteLength > 0) yield head
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value
}
