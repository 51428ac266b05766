// long: a million files are written and taken away again, once in each format
// deadline: 900 s
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { removeTree } from '../../../runtime/snapshots/layers.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

/** What the tree of a million names takes of the agent at most, until the layer is unpacked. */
const MOST_MIB = 768

describe('a layer of a million entries', function () {
  this.timeout(400_000)
  before(function () {
    onStage(this)
  })

  for (const kind of ['erofs', 'directory']) {
    it(`is unpacked and mounted within bounded memory (${kind})`, async () => {
      // syncing a shared disk shows nothing here
      const directory = await mkdtemp('/dev/shm/darner-million-')
      try {
        const child = fileURLToPath(new URL('many-entries-child.ts', import.meta.url))
        const args = ['--disable-warning=ExperimentalWarning', child, directory, kind, '1000000']
        const { stdout } = await promisify(execFile)(process.execPath, args)
        const { entries, inFolder, grownMib } = JSON.parse(stdout)
        assert.deepEqual({ entries, inFolder }, { entries: 1_001_000, inFolder: 1000 })
        assert.ok(grownMib < MOST_MIB, `grew by ${grownMib} MiB`)
      } finally {
        await removeTree(directory)
      }
    })
  }
})
