// long: makes a Debian root with sysvinit, and boots it
// deadline: 400 s
import assert from 'node:assert/strict'
import { aDir } from '../../fixtures/a-dir.ts'
import { aRichEngine } from '../../fixtures/a-rich-engine.ts'
import { onStage } from '../../fixtures/a-stage.ts'
import { aSysvinitImage } from '../../fixtures/a-systemd-image.ts'

const never = new AbortController().signal

for (const runtime of ['runc', 'crun']) {
  describe(`Debian's sysvinit as the image's own init, under ${runtime}`, function () {
    this.timeout(200_000)
    let tree = ''
    before(async function () {
      onStage(this, { programs: [runtime, 'conmon', 'debootstrap'] })
      tree = await aSysvinitImage()
    })

    it('comes to its runlevel with its services up, and shuts down by the signal that it knows', async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { sysv: { tree } } })
      const { containers } = engine.runtime
      const { id } = await containers.create({ image: 'sysv', rich: 'init', network: 'none' })
      await containers.startContainer(id, { signal: never })
      await engine.until(id, ['sh', '-c', 'runlevel | grep -q "N 2"'])
      await engine.until(id, ['sh', '-c', 'pidof syslogd'])
      assert.match((await engine.exec(id, ['cat', '/proc/1/comm'])).output, /^init/)
      await containers.stop(id, { signal: never })
      const { status, exitCode } = containers.inspect(id)
      assert.equal(status, 'exited')
      assert.notEqual(exitCode, 137, 'it was not killed')
      // init's own lines come through a console that it opens for each, and may be missing
      const order =
        /boot in runlevel 2[\s\S]*Starting busybox' syslogd[\s\S]*boot in runlevel 6[\s\S]*Stopping busybox' syslogd/
      assert.match(await engine.logOf(id), order)
    })
  })
}
