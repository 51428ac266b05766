/** Turns a layer blob as it arrives into its tar stream. Chunks are bounded, and reading slowly slows the source. */
import { DarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import type { Compression } from '../../src/oci/media-types.ts'
import { type Decoder, openDecoder } from './decoders.ts'
import { expandByStreams } from './stream-decoders.ts'

/** Each is handed to another thread and back. */
const BLOCK_BYTES = 1024 * 1024
const MAGIC_BYTES = 4

/**
 * The uncompressed bytes of `source`, whose chunks are valid until the next is asked for. With `lend` the result's chunks are valid until
 * the next but one is. The first bytes decide the format, as in other engines. Many a layer is not what its media type says, and the DiffID
 * guards the result anyway. Throws LAYER_INVALID for damaged or cut data, else what the source threw. Of what a digest has `judged` in the
 * end, a checksum isn't looked at.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  {
    lend = false,
    judged = false,
    open = openDecoder,
    signal,
  }: { lend?: boolean; judged?: boolean; open?: typeof openDecoder; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const bytes = source[Symbol.asyncIterator]()
  try {
    const head = await readHead(bytes)
    const compression = compressionOf(head)
    const whole = rejoin(head, bytes)
    const decoder = compression === 'none' ? undefined : open(compression, { judged })
    if (compression === 'none') for await (const chunk of whole) yield new Uint8Array(chunk)
    else if (decoder === undefined) yield* expandByStreams(whole, compression, signal)
    else
      for await (const block of expand(whole, decoder, compression, signal)) yield lend ? block : new Uint8Array(block)
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

/** In a few blocks of memory by turns: one that was given is left alone until the next but one is asked for. */
async function* expand(
  source: AsyncIterator<Uint8Array>,
  decoder: Decoder,
  compression: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let input: Uint8Array = new Uint8Array(0)
  let over = false
  /** What fills a block may have left more to come. */
  let pending = false
  let calling: Promise<unknown> = Promise.resolve()
  const fill = async (block: Uint8Array): Promise<Uint8Array> => {
    let filled = 0
    while (filled < block.byteLength && !over) {
      if (input.byteLength === 0 && !pending) {
        const next = await source.next()
        if (next.done && !decoder.whole) throw new DarnerError('LAYER_INVALID', `layer: its ${compression} data is cut`)
        if (next.done) over = true
        else input = next.value
        continue
      }
      const call = decoder.decode(input, block.subarray(filled))
      calling = call.catch(() => {})
      const { read, wrote, ended } = await call
      input = input.subarray(read)
      filled += wrote
      pending = filled === block.byteLength
      if (ended) over = true
    }
    return block.subarray(0, filled)
  }
  // two decoded ahead, so that neither side waits for the other, the one given out, and the one before
  const blocks = byTurns(Array.from({ length: 4 }, () => Buffer.allocUnsafeSlow(BLOCK_BYTES)))
  let last: Promise<unknown> = Promise.resolve()
  const more = () => {
    const block = blocks.next().value
    const filled = last.then(() => fill(block))
    filled.catch(() => {}) // thrown where it is awaited
    last = filled
    return filled
  }
  try {
    let [first, second] = [more(), more()]
    for (;;) {
      const block = await abortable(first, signal)
      if (block.byteLength === 0) return
      first = second
      second = more()
      yield block
    }
  } finally {
    over = true
    await calling // a source that is stuck isn't waited for
    decoder[Symbol.dispose]()
  }
}

function* byTurns<T>(things: readonly T[]): Generator<T, never> {
  for (;;) yield* things
}

async function readHead(bytes: AsyncIterator<Uint8Array>): Promise<Uint8Array> {
  let head: Uint8Array = new Uint8Array(0)
  while (head.byteLength < MAGIC_BYTES) {
    const next = await bytes.next()
    if (next.done) break
    if (next.value.byteLength >= MAGIC_BYTES && head.byteLength === 0) return next.value
    head = Buffer.concat([head, next.value])
  }
  return head
}

async function* rejoin(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.byteLength > 0) yield head
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value
}
