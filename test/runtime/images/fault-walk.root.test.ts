import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { mountsBelow } from '../../../runtime/snapshots/mounts.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { processesOf } from '../../fixtures/host/processes-of.ts'
import { until } from '../../fixtures/until.ts'
import { anImageShelf, IMAGE, PULL_FAULT_POINTS } from './pull-child.ts'

const CHILD = fileURLToPath(new URL('pull-child.ts', import.meta.url))

for (const kind of ['erofs', 'directory'] as const) {
  describe(`kill -9 in the middle of a pull into ${kind} layers`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this)
    })

    for (const point of PULL_FAULT_POINTS) {
      it(`at ${point}: lists no half image, leaves nothing behind, and a second pull brings the whole`, async () => {
        await using dir = await aDir()
        const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', CHILD, dir.path, kind, point], {
          stdio: 'inherit',
        })
        const [, signal] = await once(child, 'exit')
        assert.equal(signal, 'SIGKILL')
        await until(() => processesOf(dir.path).length === 0)
        await using shelf = await anImageShelf(dir.path, kind)
        const { images, snapshotter } = shelf
        await snapshotter.recover(new Set())
        assert.equal((await images.list()).length, point === 'recorded' ? 1 : 0)
        const { image } = await shelf.pull()
        assert.equal(image.manifest, IMAGE.manifest.digest)
        assert.deepEqual([...(await snapshotter.layers())].map((one) => one.diffId).sort(), [...IMAGE.diffIds].sort())
        assert.deepEqual(readdirSync(join(dir.path, 'layers', kind, 'ingest')), [])
        const mount = { readonly: false, signal: AbortSignal.timeout(10_000) }
        const { path } = await snapshotter.mount('one', [...IMAGE.diffIds], mount)
        assert.notDeepEqual(readdirSync(path), [])
        await snapshotter.remove('one')
        await snapshotter.recover(new Set())
        assert.deepEqual(await mountsBelow(dir.path), [])
      })
    }
  })
}
