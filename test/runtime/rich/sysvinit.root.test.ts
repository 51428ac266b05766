// long: makes a Debian root with sysvinit, and boots it; a job of cron that is due every minute is waited for
// deadline: 400 s
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { aRichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { sshInto } from '../../fixtures/host/ssh-into.ts'
import { aSysvinitImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const STOP_SEC = 9
/** As init-d-script(5) and insserv(8) want it. */
const SCRIPT = [
  '#!/bin/sh',
  '### BEGIN INIT INFO',
  '# Provides: mark',
  '# Required-Start:',
  '# Required-Stop:',
  '# Default-Start: 2',
  '# Default-Stop: 0 6',
  '### END INIT INFO',
  'echo $1 >> /root/mark-ran',
  '',
].join('\\n')

for (const runtime of ['runc', 'crun']) {
  describe(`Debian's sysvinit as the image's own init, under ${runtime}`, function () {
    this.timeout(200_000)
    let tree = ''
    before(async function () {
      onStage(this, { net: true, programs: [runtime, 'conmon', 'debootstrap', 'ssh', 'ssh-keygen', 'nsenter'] })
      tree = await aSysvinitImage()
    })

    it('comes to its runlevel, serves ssh, syslog and cron, and shuts down by the signal that it knows', async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { sysv: { tree } } })
      const { containers } = engine.runtime
      const { id } = await containers.create({ image: 'sysv', rich: 'init', network: 'none' })
      await containers.startContainer(id, { signal: never })
      const inside = (script: string) => engine.exec(id, ['sh', '-c', script])
      await engine.until(id, ['sh', '-c', 'runlevel | grep -q "N 2"'])
      for (const one of ['sshd', 'rsyslogd', 'cron']) await engine.until(id, ['pidof', one])
      const { pid = 0 } = containers.inspect(id)
      assert.equal(await sshInto({ pid, inside }, 'cat /proc/1/comm; id -un'), 'init\nroot\n')
      await inside('logger written-by-logger')
      await engine.until(id, ['grep', '-q', 'written-by-logger', '/var/log/syslog'])
      await inside('echo "* * * * * root date > /root/cron-fired" > /etc/cron.d/mark')
      await engine.until(id, ['test', '-s', '/root/cron-fired'])

      await inside(`printf '${SCRIPT}' > /etc/init.d/mark; chmod 755 /etc/init.d/mark; update-rc.d mark defaults`)
      await containers.stop(id, { timeoutSec: STOP_SEC, signal: never })
      const { status, exitCode } = containers.inspect(id)
      assert.equal(status, 'exited')
      assert.notEqual(exitCode, 137, 'it was not killed')
      assert.match(await readFile(join(dir.path, 'rootfs', id, 'rw/upper/root/mark-ran'), 'utf8'), /^stop$/m)
      // init's own lines come through a console that it opens for each, and may be missing
      assert.match(await engine.logOf(id), /boot in runlevel 2[\s\S]*boot in runlevel 6/)
    })
  })
}
