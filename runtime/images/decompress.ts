/** Turns a layer blob as it arrives into its tar stream. Chunks are bounded, and reading slowly slows the source. */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { DarnerError } from '../../src/base/errors.ts'
import type { Compression } from '../../src/oci/media-types.ts'

const CHUNK_BYTES = 256 * 1024
const MAGIC_BYTES = 4

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
    else yield* expand(whole, compression, signal)
  } finally {
    await bytes.return?.()
  }
}

/** By magic number: gzip (RFC 1952, 2.3.1), zstd (RFC 8878, 3.1.1), anything else plain. */
export function compressionOf(head: Uint8Array): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip'
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return 'zstd'
  return 'none'
}

async function* expand(
  source: AsyncIterable<Uint8Array>,
  compression: 'gzip' | 'zstd',
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const engine =
    compression === 'gzip' ? createGunzip({ chunkSize: CHUNK_BYTES }) : createZstdDecompress({ chunkSize: CHUNK_BYTES })
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
