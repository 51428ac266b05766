/** Origins under the host's rate limits: what this host reads there itself counts as what comes in from peers does. */
import type { OriginPort, OriginTarget } from '../src/core/contracts/origin.ts'
import { originName } from '../src/core/task/origin.ts'
import type { RateLimits } from '../src/exchange/limits/limits.ts'

/** The same port, its reads held to `limits`. */
export function limitedOrigin(origin: OriginPort, limits: RateLimits): OriginPort {
  return {
    read: async (target, options) => {
      const read = await origin.read(target, options)
      return {
        ...(read.etag === undefined ? {} : { etag: read.etag }),
        ...(read.lastModified === undefined ? {} : { lastModified: read.lastModified }),
        ...(read.bytes === undefined ? {} : { bytes: read.bytes }),
        from: read.from,
        ...(read.done === undefined ? {} : { done: read.done }),
        stream: held(read.stream, target, limits, options.signal),
        [Symbol.asyncDispose]: () => read[Symbol.asyncDispose](),
      }
    },
    stat: (target, options) => origin.stat(target, options),
    manifest: (target, reference, options) => origin.manifest(target, reference, options),
    manifestHead: (target, reference, options) => origin.manifestHead(target, reference, options),
  }
}

async function* held(
  stream: AsyncIterable<Uint8Array>,
  { origin, digest }: OriginTarget,
  limits: RateLimits,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const host = new URL(origin.kind === 'url' ? origin.url : origin.upstream).host
  const flow = { direction: 'in', priority: 'interactive', task: digest ?? originName(origin), origin: host } as const
  for await (const chunk of stream) {
    const most = Math.max(1, Math.min(chunk.byteLength, limits.chunkBytes(flow)))
    for (let at = 0; at < chunk.byteLength; at += most) {
      const part = chunk.subarray(at, at + most)
      await limits.take(part.byteLength, { ...flow, signal })
      yield part
    }
  }
}
