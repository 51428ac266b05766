import assert from 'node:assert/strict'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Entry } from '../../../runtime/containers/entry.ts'
import { LogKeeper } from '../../../runtime/containers/log-keeper.ts'
import { FAST_LOOK_MS, SLOW_LOOK_MS } from '../../../runtime/containers/log-watch.ts'
import { bundleAt } from '../../../runtime/shim/bundle.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const MAX_BYTES = 100

/** A keeper that runs on a clock of its own; `looked` steps on until all that was begun is done. */
async function aKeeper(dir: string) {
  const clock = new ManualClock()
  const begun: Promise<void>[] = []
  const keeper = new LogKeeper({ clock, background: (_id, work) => begun.push(work()) })
  const over = new AbortController()
  const running = keeper.run(over.signal).catch(() => {})
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  return {
    keeper,
    entry: async (id: string, log: object): Promise<Entry> => {
      const bundle = bundleAt(join(dir, id))
      await mkdir(bundle.path)
      return { id, bundle, record: { request: { log } } } as unknown as Entry
    },
    looked: async (ms = SLOW_LOOK_MS) => {
      await turn()
      clock.advance(ms)
      await turn()
      await Promise.all(begun.splice(0))
    },
    [Symbol.asyncDispose]: async () => {
      over.abort()
      await running
    },
  }
}

describe('the keeper of logs', () => {
  it('puts a log aside that came to its length while the container runs, also one that begins later', async () => {
    await using dir = await aDir()
    await using kept = await aKeeper(dir.path)
    await kept.looked()
    for (const id of ['first', 'second']) {
      const entry = await kept.entry(id, { driver: 'json-file', maxBytes: MAX_BYTES, maxFiles: 2 })
      kept.keeper.begin(entry)
      await writeFile(entry.bundle.log, 'x'.repeat(MAX_BYTES))
      await kept.looked()
      assert.equal((await stat(entry.bundle.log)).size, MAX_BYTES)
      await writeFile(entry.bundle.log, `${'x'.repeat(MAX_BYTES)}more`)
      await kept.looked()
      assert.match(await readFile(`${entry.bundle.log}.1`, 'utf8'), /more$/)
    }
  })

  it('tells conmon once to begin a log anew, and again when long nothing came of it', async () => {
    await using dir = await aDir()
    await using kept = await aKeeper(dir.path)
    const entry = await kept.entry('slow', { driver: 'json-file', maxBytes: MAX_BYTES, maxFiles: 2 })
    const { log, control } = entry.bundle
    await writeFile(log, 'x'.repeat(2 * MAX_BYTES))
    await writeFile(control, '')
    const told = async () => {
      const words = await readFile(control, 'utf8')
      await writeFile(control, '')
      return words
    }
    kept.keeper.begin(entry)
    await kept.looked()
    assert.notEqual(await told(), '')
    for (let look = 1; look * FAST_LOOK_MS < SLOW_LOOK_MS; look++) {
      await kept.looked(FAST_LOOK_MS)
      assert.equal(await told(), '')
    }
    await kept.looked()
    assert.notEqual(await told(), '')
  })

  it('leaves alone what has no length to keep, and what has ended', async () => {
    await using dir = await aDir()
    await using kept = await aKeeper(dir.path)
    const free = await kept.entry('free', { driver: 'json-file' })
    const ended = await kept.entry('ended', { driver: 'json-file', maxBytes: MAX_BYTES, maxFiles: 2 })
    for (const entry of [free, ended]) {
      await writeFile(entry.bundle.log, 'x'.repeat(2 * MAX_BYTES))
      kept.keeper.begin(entry)
    }
    kept.keeper.end(ended.id)
    await kept.looked()
    for (const { bundle } of [free, ended]) assert.equal((await stat(bundle.log)).size, 2 * MAX_BYTES)
  })
})
