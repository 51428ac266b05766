/**
 * Unpacks a layer of COUNT empty files in a thousand folders within the limits of a pull: `many-entries-child.ts DIRECTORY KIND COUNT`. Says
 * in JSON what is stored, what a folder of it holds once mounted, and by how many MiB the process grew.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DEFAULT_LAYER_LIMITS } from '../../../runtime/images/pull.ts'
import { openSnapshotter } from '../../../runtime/snapshots/snapshotter.ts'
import { Digester } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'

const FOLDERS = 1000
const BLOCK = 512
const SUM_AT = 148
const [directory = '', kind = '', count = ''] = process.argv.slice(2)
const signal = new AbortController().signal
const peakMib = () => process.resourceUsage().maxRSS / 1024

/** One header of which only the digits of the name and the sum change: to make each anew takes longer than to unpack it. */
function* archive(): Generator<Uint8Array> {
  const blank = aTar([{ name: 'd000/f0000000', body: '' }], { end: false })
  const sumOf = (digits: Buffer) => digits.reduce((sum, byte) => sum + byte - 0x30, 0)
  const base = Number.parseInt(blank.toString('latin1', SUM_AT, SUM_AT + 6), 8)
  for (let from = 0; from < Number(count); from += FOLDERS) {
    const part = Buffer.alloc(BLOCK * FOLDERS)
    for (let at = 0; at < FOLDERS; at++) {
      const header = part.subarray(at * BLOCK, (at + 1) * BLOCK)
      blank.copy(header)
      const [folder, file] = [String(at).padStart(3, '0'), String(from + at).padStart(7, '0')]
      header.write(`d${folder}/f${file}`, 'latin1')
      header.write((base + sumOf(Buffer.from(folder + file))).toString(8).padStart(6, '0'), SUM_AT, 'latin1')
    }
    yield part
  }
  yield Buffer.alloc(2 * BLOCK)
}

async function* blob(): AsyncGenerator<Uint8Array> {
  yield* archive()
}

const digester = new Digester()
for (const part of archive()) digester.update(part)
const diffId = digester.finish()
const snapshotter = await openSnapshotter(
  { directory, kind: kind === 'erofs' ? 'erofs' : 'directory' },
  { log: silentLog() },
)
const before = peakMib()
await snapshotter.unpack(diffId, blob(), { limits: DEFAULT_LAYER_LIMITS, signal })
const grownMib = peakMib() - before
const entries = (await snapshotter.layer(diffId))?.entries
const { path } = await snapshotter.mount('huge', [diffId], { readonly: true, signal })
const inFolder = readdirSync(join(path, 'd007')).length
await snapshotter.recover(new Set())
console.log(JSON.stringify({ entries, inFolder, grownMib }))
