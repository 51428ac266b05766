import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { umount } from '../../../runtime/linux/syscalls.ts'
import { readCgroupLayout } from '../../../runtime/spec/cgroups.ts'
import { aRichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { CGROUP } from '../../fixtures/host/test-cgroup.ts'
import { aSystemdImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const STOP_SEC = 9

describe('systemd as PID 1 on a host with cgroup v1 alone', function () {
  this.timeout(120_000)
  let tree = ''
  before(async function () {
    onStage(this, { programs: ['runc', 'crun', 'conmon', 'debootstrap'] })
    const { kind, v1, v2 } = await readCgroupLayout()
    const able = kind === 'hybrid' && v1.has('name=systemd')
    needs(this, { other: () => (able ? undefined : 'needs cgroup v1 hierarchies, name=systemd among them') })
    umount(v2?.path ?? '') // on this stage only
    assert.equal((await readCgroupLayout()).kind, 'v1')
    tree = await aSystemdImage()
  })

  for (const runtime of ['runc', 'crun']) {
    it(`boots to running under ${runtime} with no failed unit, in a cgroup of its own, and stops in order`, async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { debian: { tree } } })
      const { containers } = engine.runtime
      const { id } = await containers.create({ image: 'debian', rich: 'systemd', network: 'none' })
      await containers.startContainer(id, { signal: never })
      assert.equal((await engine.until(id, ['systemctl', 'is-system-running', '--wait'])).trim(), 'running')
      assert.equal((await engine.exec(id, ['systemctl', '--failed', '--no-legend'])).output.trim(), '')
      const { pid } = containers.inspect(id)
      assert.match(await readFile(`/proc/${pid}/cgroup`, 'utf8'), new RegExp(`:memory:${CGROUP}/${id}$`, 'm'))
      await containers.stop(id, { timeoutSec: STOP_SEC, signal: never })
      assert.equal(containers.inspect(id).exitCode, 0) // 137: killed
    })
  }
})
