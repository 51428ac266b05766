import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cgroupRoots, readCgroupLayout } from '../../../runtime/spec/cgroups.ts'
import { aRichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { anLxcfs } from '../../fixtures/engine/an-lxcfs.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { CGROUP } from '../../fixtures/host/test-cgroup.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal

/** Where the engines' folder is now. */
async function folders(): Promise<string[]> {
  return cgroupRoots(await readCgroupLayout())
    .map((root) => join(root, CGROUP))
    .filter((path) => existsSync(path))
}

describe("the engine's own cgroup", () => {
  before(function () {
    onStage(this, { programs: ['runc', 'crun', 'conmon', 'lxcfs'] })
  })

  for (const runtime of ['runc', 'crun']) {
    it(`is gone from every hierarchy when the engine stops after its last container under ${runtime}`, async () => {
      await using dir = await aDir()
      {
        await using engine = await anEngine({ dir: dir.path, defaultRuntime: runtime })
        const { containers } = engine.runtime
        const { id } = await containers.create({ image: 'busybox', command: ['sleep', '1000'] })
        await containers.startContainer(id, { signal: never })
        assert.notDeepEqual(await folders(), [])
      }
      assert.deepEqual(await folders(), [])
    })
  }

  it('stays for another engine of this host, and for a container that goes on, whose next engine takes it away', async () => {
    await using dir = await aDir()
    await using other = await aDir()
    const tree = await aBusyboxTree(dir.path)
    const config = { Cmd: ['sleep', '1000'], Env: ['PATH=/bin'] }
    const given = { dir: dir.path, runtime: 'crun', images: { busybox: { tree, config } } }
    const idle = await anEngine({ dir: other.path, defaultRuntime: 'crun' })
    const first = await aRichEngine(given)
    const { id } = await first.runtime.containers.create({ image: 'busybox', network: 'none' })
    await first.leave()
    assert.notDeepEqual(await folders(), [], 'the idle one has it')
    const second = await aRichEngine(given)
    await second.runtime.containers.startContainer(id, { signal: never })
    await second.leave()
    await idle[Symbol.asyncDispose]()
    assert.notDeepEqual(await folders(), [], 'the container is in it')
    {
      await using third = await aRichEngine(given)
      assert.equal(third.runtime.containers.inspect(id).status, 'running')
    }
    assert.deepEqual(await folders(), [])
  })

  it('goes with an lxcfs that no container reads from', async () => {
    await using dir = await aDir()
    const lxcfs = anLxcfs(dir.path)
    const engine = await aRichEngine({ dir: dir.path, runtime: 'crun', options: { lxcfs: 'managed' } })
    const pid = await lxcfs.pid()
    await engine.leave()
    await engine.runtime[Symbol.asyncDispose]() // once more is fine
    assert.deepEqual(await folders(), [])
    await until(() => !existsSync(`/proc/${pid}`)) // whoever adopted it reaps it when it comes to that
  })
})
