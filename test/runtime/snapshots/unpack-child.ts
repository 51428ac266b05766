/** Unpacks a layer that never ends, until it is killed: `unpack-child.ts DIRECTORY KIND`. Says `half` once much of it is on disk. */
import { openSnapshotter } from '../../../runtime/snapshots/snapshotter.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'

const [directory = '', kind = ''] = process.argv.slice(2)
const snapshotter = await openSnapshotter(
  { directory, kind: kind === 'erofs' ? 'erofs' : 'directory' },
  { log: silentLog() },
)
async function* endless(): AsyncGenerator<Uint8Array> {
  for (let at = 0; ; at++) {
    yield aTar([{ name: `f${at}`, body: Buffer.alloc(10_000, 'x') }], { end: false })
    if (at === 200) process.stdout.write('half\n')
    await new Promise((resolve) => setImmediate(resolve))
  }
}
await snapshotter.unpack(digestOf('never'), endless(), {
  limits: { bytes: 2 ** 40, entries: 2 ** 40 },
  signal: new AbortController().signal,
})
