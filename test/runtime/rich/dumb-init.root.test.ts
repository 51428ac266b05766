import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import type { ServiceView } from '../../../src/api/rich-api.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aSystemdImage } from '../../fixtures/images/a-systemd-image.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal

/** The service, once it is as wanted. */
async function service(engine: RichEngine, name: string, is: (one: ServiceView) => boolean): Promise<ServiceView> {
  return await until(() => engine.runtime.services.list().find((one) => one.name === name && is(one)))
}

for (const runtime of ['runc', 'crun']) {
  describe(`dumb-init under ${runtime}`, function () {
    this.timeout(300_000)
    let tree = ''
    before(async function () {
      onStage(this, { net: true, programs: [runtime, 'conmon', 'debootstrap'] })
      tree = await aSystemdImage()
    })

    const MAIN = ['sh', '-c', 'trap "echo main-got-term; exit 5" TERM; echo main-up; while :; do sleep 0.1; done']

    it('runs sshd, cron and syslog beside the command, reaps, and passes the stop signal on', async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { debian: { tree } } })
      const { containers } = engine.runtime
      const { id } = await containers.create({
        image: 'debian',
        rich: 'dumb-init',
        command: MAIN,
        network: 'none',
        services: [{ name: 'sshd' }, { name: 'cron' }, { name: 'syslog' }],
      })
      await containers.startContainer(id, { signal: never })
      for (const name of ['sshd', 'cron', 'syslog']) await service(engine, name, (one) => one.status === 'running')
      await engine.until(id, ['sh', '-c', 'logger beside && grep -q beside /var/log/syslog'])
      await engine.until(id, ['pgrep', '-x', 'sshd'])
      assert.match((await engine.exec(id, ['cat', '/proc/1/cmdline'])).output, /^\/dev\/darner-init\0/)
      assert.notEqual((await engine.exec(id, ['sh', '-c', ': > /dev/darner-init'])).exitCode, 0) // bound read-only
      await engine.exec(id, ['sh', '-c', 'i=0; while [ $i -lt 1000 ]; do (true & ) ; i=$((i+1)); done'])
      await engine.until(id, ['sh', '-c', '! grep -l "State:.Z" /proc/[0-9]*/status 2>/dev/null'])
      const { logPath } = await service(engine, 'sshd', () => true)
      await until(async () => /Server listening on/.test(await readFile(logPath, 'utf8')))
      await containers.stop(id, { signal: never })
      assert.equal(containers.inspect(id).exitCode, 5)
      assert.match(await engine.logOf(id), /main-up[\s\S]*main-got-term/)
      await containers.rename(id, 'over') // waits for what belongs after the run
      assert.deepEqual(engine.runtime.services.list(), [])
    })

    it('starts a service again with growing pauses, and tells its exit code and restarts', async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { debian: { tree } } })
      const { containers } = engine.runtime
      const { id } = await containers.create({
        image: 'debian',
        rich: 'dumb-init',
        command: MAIN,
        network: 'none',
        services: [
          { name: 'flaky', command: ['sh', '-c', 'echo "try as $(id -un)"; exit 42'] },
          { name: 'absent', command: ['/nonexistent'] },
        ],
      })
      await containers.startContainer(id, { signal: never })
      const { lastExitCode, logPath } = await service(engine, 'flaky', (one) => one.restarts >= 3)
      assert.equal(lastExitCode, 42)
      assert.match(await readFile(logPath, 'utf8'), /try as root[\s\S]*try as root/)
      const { nextTryAt } = await service(engine, 'flaky', (one) => one.restarts >= 3 && one.nextTryAt !== undefined)
      assert.ok(nextTryAt !== undefined)
      await service(engine, 'absent', (one) => one.restarts >= 1 && one.lastError !== undefined)
      assert.equal(containers.inspect(id).status, 'running')
    })

    it('keeps services when the agent goes, and watches them again when it is back', async () => {
      await using dir = await aDir()
      const given = { dir: dir.path, runtime, images: { debian: { tree } } }
      const first = await aRichEngine(given)
      const { id } = await first.runtime.containers.create({
        image: 'debian',
        rich: 'dumb-init',
        command: MAIN,
        network: 'none',
        services: [{ name: 'one', command: ['sleep', '1000'] }],
      })
      await first.runtime.containers.startContainer(id, { signal: never })
      const before = await service(first, 'one', ({ status }) => status === 'running')
      await first.leave()
      await using engine = await aRichEngine(given)
      const after = await service(engine, 'one', ({ status }) => status === 'running')
      assert.deepEqual(after, before)
      process.kill(after.pid ?? 0, 'SIGKILL')
      const again = await service(engine, 'one', (one) => one.restarts === 1 && one.status === 'running')
      assert.equal(again.lastExitCode, 137)
      assert.notEqual(again.pid, before.pid)
    })
  })
}
