/** Pulls an image until it kills itself: `pull-child.ts DIRECTORY KIND POINT`, a point of {@link PULL_FAULT_POINTS}. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Level } from 'level'
import { Images } from '../../../runtime/images/images.ts'
import { type PullEvent, type PulledImage, pullImage } from '../../../runtime/images/pull.ts'
import { openSnapshotter, type StackingSnapshotter } from '../../../runtime/snapshots/snapshotter.ts'
import { systemClock } from '../../../src/core/clock.ts'
import { silentLog } from '../../../src/core/log.ts'
import { parseReference } from '../../../src/oci/reference.ts'
import { aContentSource } from '../../fixtures/engine/a-content-source.ts'
import { anImage } from '../../fixtures/images/an-image.ts'

/** What a pull tells of itself, in its order; `done 2` is when both layers are there and the image isn't listed yet. */
export const PULL_FAULT_POINTS = [
  'resolved',
  'waiting 1',
  'downloading 1',
  'unpacking 1',
  'done 1',
  'done 2',
  'recorded',
] as const

export const IMAGE = anImage({
  layers: [
    { compression: 'gzip', bytes: 300_000 },
    { compression: 'none', bytes: 200_000 },
  ],
})

export interface ImageShelf extends AsyncDisposable {
  readonly images: Images
  readonly snapshotter: StackingSnapshotter
  pull(onProgress?: (event: PullEvent) => void): Promise<PulledImage>
}

/** What an agent has of images in `directory`. */
export async function anImageShelf(directory: string, kind: 'erofs' | 'directory'): Promise<ImageShelf> {
  const level = new Level<string, string>(join(directory, 'db'))
  await level.open()
  const snapshotter = await openSnapshotter({ directory: join(directory, 'layers'), kind }, { log: silentLog() })
  const images = new Images({ space: level })
  const request = {
    reference: parseReference('registry.test/app:0'),
    platform: { os: 'linux', architecture: 'amd64' },
    plainHttp: true,
    parallel: 1,
    signal: AbortSignal.timeout(30_000),
  }
  return {
    images,
    snapshotter,
    pull: (onProgress = () => {}) =>
      pullImage(
        { ...request, onProgress },
        { content: aContentSource([IMAGE]), snapshotter, images, clock: systemClock },
      ),
    [Symbol.asyncDispose]: () => level.close(),
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , directory = '', kind = '', point] = process.argv
  const shelf = await anImageShelf(directory, kind === 'erofs' ? 'erofs' : 'directory')
  const times = new Map<string, number>()
  await shelf.pull((event) => {
    const name = event.kind === 'layer' ? event.state : event.kind
    const nth = (times.get(name) ?? 0) + 1
    times.set(name, nth)
    if (point === name || point === `${name} ${nth}`) process.kill(process.pid, 'SIGKILL')
  })
  process.kill(process.pid, 'SIGKILL') // recorded
}
