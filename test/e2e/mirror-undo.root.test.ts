import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, it } from 'mocha'
import { snapshotOf } from '../fixtures/clients/real-clients.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { onStage } from '../fixtures/host/a-stage.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'

describe('darner mirror setup --undo', () => {
  it("leaves the folder of darner's data where that is a file system of its own", async function () {
    onStage(this, { programs: ['mount', 'umount'] })
    await using dir = await aDir()
    const root = join(dir.path, 'root')
    const data = join(root, 'var/lib/darner')
    await mkdir(data, { recursive: true })
    const run = promisify(execFile)
    await run('mount', ['-t', 'tmpfs', 'darner', data])
    try {
      const before = await snapshotOf(root)
      const setup = (...args: string[]) =>
        runDarner(['mirror', 'setup', 'docker', ...args, '--root', root, '--socket', join(dir.path, 'none.sock')])
      for (const way of ['--apply', '--undo']) {
        const { code, stderr } = await setup(way)
        assert.equal(code, 0, stderr)
      }
      assert.deepEqual(await snapshotOf(root), before)
    } finally {
      await run('umount', [data])
    }
  })
})
