// long: makes a Debian root with OpenRC, and boots it
// deadline: 400 s
import assert from 'node:assert/strict'
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { aRichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { sshInto } from '../../fixtures/host/ssh-into.ts'
import { anOpenrcImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const STOP_SEC = 9

for (const runtime of ['runc', 'crun']) {
  describe(`OpenRC's init as the image's own, under ${runtime}`, function () {
    this.timeout(120_000)
    let tree = ''
    before(async function () {
      onStage(this, { net: true, programs: [runtime, 'conmon', 'debootstrap', 'ssh', 'ssh-keygen', 'nsenter'] })
      tree = await anOpenrcImage()
    })

    it('comes to its runlevel with its services up, and shuts down by the signal that it knows', async () => {
      await using dir = await aDir()
      const over = join(dir.path, 'over')
      await mkdir(join(over, 'usr/sbin'), { recursive: true })
      await symlink('openrc-init', join(over, 'usr/sbin/init')) // Debian leaves that to who chooses it
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { rc: { tree, over } } })
      const { containers } = engine.runtime
      const { id } = await containers.create({ image: 'rc', rich: 'init', network: 'none' })
      await containers.startContainer(id, { signal: never })
      for (const one of ['ssh', 'cron']) await engine.until(id, ['rc-service', one, 'status'])
      assert.equal((await engine.until(id, ['rc-status', '-r'])).trim(), 'default')
      const { pid = 0 } = containers.inspect(id)
      const inside = (script: string) => engine.exec(id, ['sh', '-c', script])
      assert.equal(await sshInto({ pid, inside }, 'cat /proc/1/comm; id -un'), 'init\nroot\n')
      await containers.stop(id, { timeoutSec: STOP_SEC, signal: never })
      const { status, exitCode } = containers.inspect(id)
      assert.equal(status, 'exited')
      assert.notEqual(exitCode, 137, 'it was not killed')
      assert.match(await engine.logOf(id), /Starting shutdown runlevel[\s\S]*Stopping OpenBSD Secure Shell server/)
    })
  })
}
