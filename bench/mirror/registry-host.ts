/**
 * The registry of the mirror bench, a program because it may run in a network namespace of its own. `node registry-host.ts ADDRESS`
 * prints `HOST:PORT`; each line on stdin is a question as JSON, each answer a line: {@link RegistryAsk}.
 */
import { createInterface } from 'node:readline'
import type { Digest } from '../../src/core/digest.ts'
import { anImage, pushImage } from '../../test/fixtures/images/an-image.ts'
import { aRegistry } from '../../test/fixtures/origin/a-registry.ts'
import { debianParts } from '../engine/layers.ts'
import { pushVariant } from '../engine/push-variant.ts'

/**
 * `push` makes an image of random bytes, `debian` one of a Debian tree in so many layers; both answer {@link Pushed}. `gets` answers
 * the most times that one of these blobs was read.
 */
export type RegistryAsk =
  | {
      readonly push: {
        readonly repository: string
        readonly seed: number
        readonly bytes: number
        readonly layers: number
      }
    }
  | { readonly debian: { readonly repository: string; readonly number: number; readonly layers: number } }
  | { readonly gets: readonly Digest[] }

export interface Pushed {
  readonly repository: string
  readonly manifest: Digest
  /** Config and layers. */
  readonly blobs: readonly Digest[]
}

const never = new AbortController().signal
const [address = '127.0.0.1'] = process.argv.slice(2)
await using registry = await aRegistry({ listen: `${address}:0` })
console.log(registry.host)

async function answer(ask: RegistryAsk): Promise<unknown> {
  if ('gets' in ask) {
    const counts: number[] = []
    for (const digest of ask.gets) counts.push(await registry.blobGets(digest))
    return Math.max(0, ...counts)
  }
  if ('debian' in ask) {
    const { repository, number, layers } = ask.debian
    const parts = await debianParts(layers, { signal: never })
    return { repository, ...(await pushVariant(registry, { repository, tag: 'v1' }, parts, number)) } satisfies Pushed
  }
  const { repository, seed, bytes, layers } = ask.push
  const layer = { compression: 'none' as const, bytes: Math.floor(bytes / layers) }
  const image = anImage({ seed, layers: Array.from({ length: layers }, () => layer) })
  await pushImage(registry, repository, 'v1', image)
  const blobs = [image.config, ...image.layers].map(({ digest }) => digest)
  return { repository, manifest: image.manifest.digest, blobs } satisfies Pushed
}

const lines = createInterface({ input: process.stdin })
process.once('SIGTERM', () => lines.close())
for await (const line of lines) {
  console.log(JSON.stringify(await answer(JSON.parse(line) as RegistryAsk)))
}
