// vm: systemd in a container under pure cgroup v2
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DEFAULT_CAPABILITIES } from '../../../runtime/spec/defaults.ts'
import { CAPABILITY_NAMES, parseBoundingSet } from '../../../runtime/spec/host-limits.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { sshInto } from '../../fixtures/host/ssh-into.ts'
import { CGROUP } from '../../fixtures/host/test-cgroup.ts'
import { aSystemdImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
/** In which a whole system has to stop: ten seconds, of a processor that is not emulated. */
const STOP_SEC = 10 * Number(process.env.DARNER_TEST_SLOW ?? 1)

async function boot(engine: RichEngine, request: Partial<CreateRequest> = {}): Promise<string> {
  const { containers } = engine.runtime
  const { id } = await containers.create({ image: 'debian', rich: 'systemd', network: 'none', ...request })
  await containers.startContainer(id, { signal: never })
  return id
}

/** Waits for a text in the log, or fails with all that was there when the container ended. */
async function seen(engine: RichEngine, id: string, wanted: string): Promise<void> {
  const enough = new AbortController()
  let text = ''
  for await (const { bytes } of engine.runtime.containers.logs(id, { follow: true }, { signal: enough.signal })) {
    text += Buffer.from(bytes).toString()
    if (text.includes(wanted)) return
  }
  assert.fail(`the container ended before its log said ${wanted}: ${text.slice(-3000)}`)
}

describe('systemd as PID 1', function () {
  this.timeout(300_000)
  let tree = ''
  before(async function () {
    onStage(this, { net: true, programs: ['runc', 'crun', 'conmon', 'debootstrap', 'ssh', 'ssh-keygen', 'nsenter'] })
    tree = await aSystemdImage()
  })

  for (const runtime of ['runc', 'crun']) {
    it(`boots to running under ${runtime}, tells its readiness, serves, and stops in order`, async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { debian: { tree } } })
      const id = await boot(engine)
      assert.equal((await engine.until(id, ['systemctl', 'is-system-running', '--wait'])).trim(), 'running')
      assert.equal((await engine.exec(id, ['systemctl', '--failed', '--no-legend'])).output.trim(), '')
      for (const unit of ['ssh', 'rsyslog', 'cron', 'dbus']) await engine.until(id, ['systemctl', 'is-active', unit])
      const { pid = 0, readyAt, startedAt = 0 } = engine.runtime.containers.inspect(id)
      assert.ok(readyAt !== undefined && readyAt >= startedAt - 2000, `ready at ${readyAt}, started at ${startedAt}`)
      const uuid = (await engine.exec(id, ['cat', '/run/host/container-uuid'])).output.trim()
      assert.equal(uuid.replaceAll('-', ''), id.slice(0, 32))
      assert.match((await engine.exec(id, ['cat', '/proc/1/environ'])).output, /container=oci\0/)

      // no more capabilities than the table in the documentation
      const bounding = parseBoundingSet(await readFile(`/proc/${pid}/status`, 'utf8'))
      assert.deepEqual(
        CAPABILITY_NAMES.filter((one) => bounding.has(one)),
        CAPABILITY_NAMES.filter((one) => DEFAULT_CAPABILITIES.includes(one)),
      )
      // a cgroup of its own, which it sees as the root
      assert.match(await readFile(`/proc/${pid}/cgroup`, 'utf8'), new RegExp(`^0::${CGROUP}/${id}/init.scope$`, 'm'))
      assert.match((await engine.exec(id, ['cat', '/proc/1/cgroup'])).output, /^0::\/init.scope$/m)

      // syslog file, journal and console reach where they belong
      await engine.exec(id, ['logger', 'hello-from-logger'])
      await engine.until(id, ['grep', '-q', 'hello-from-logger', '/var/log/syslog'])
      await engine.until(id, ['sh', '-c', 'journalctl --no-pager | grep -q hello-from-logger'])
      await seen(engine, id, 'hello-from-logger')
      await seen(engine, id, 'Welcome to Debian')

      const cron =
        'echo "@reboot root touch /root/cron-fired" > /etc/cron.d/once; rm -f /run/crond.reboot; systemctl restart cron'
      await engine.exec(id, ['sh', '-c', cron])
      await engine.until(id, ['test', '-e', '/root/cron-fired'])

      // a login over the network of the container
      const inside = (script: string) => engine.exec(id, ['sh', '-c', script])
      assert.equal(await sshInto({ pid, inside }, 'cat /proc/1/comm; id -un'), 'systemd\nroot\n')

      const unit =
        '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStop=/bin/touch /root/stop-job-ran\n'
      await engine.exec(id, ['sh', '-c', `printf '${unit.replaceAll('\n', '\\n')}' > /etc/systemd/system/mark.service`])
      assert.equal((await engine.exec(id, ['systemctl', 'start', 'mark'])).exitCode, 0)
      const { request } = engine.runtime.containers.inspect(id)
      assert.ok((request.stopTimeoutSec ?? 0) >= 90)
      await engine.runtime.containers.stop(id, { timeoutSec: STOP_SEC, signal: never })
      const { exitCode, status } = engine.runtime.containers.inspect(id)
      assert.deepEqual({ exitCode, status }, { exitCode: 0, status: 'exited' }) // 137 would be a KILL
      await readFile(join(dir.path, 'rootfs', id, 'rw/upper/root/stop-job-ran'))
    })

    it(`runs the image's own command as a unit under ${runtime}; its exit code ends the container`, async () => {
      await using dir = await aDir()
      const config = {
        Cmd: ['/bin/sh', '-c', 'echo "$GREETING to $(id -un) in $(pwd): 100% $0"; exit 7', 'a"b'],
        Env: ['PATH=/usr/bin:/bin', 'GREETING=hello $HOME %n "quoted"'],
        User: 'games',
        WorkingDir: '/var/tmp',
        Labels: { 'darner.rich': 'systemd' },
      }
      const options = { richImages: true }
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { app: { tree, config } }, options })
      const { containers } = engine.runtime
      const { id } = await containers.create({ image: 'app', network: 'none', exitWithCommand: true })
      await containers.startContainer(id, { signal: never })
      const { exitCode } = await containers.wait(id, { signal: never })
      const log = await engine.logOf(id)
      assert.match(log, /hello \$HOME %n "quoted" to games in \/var\/tmp: 100% a"b/)
      assert.equal(exitCode, 7)
    })
  }

  it('reaps a thousand orphans', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    const id = await boot(engine)
    await engine.until(id, ['systemctl', 'is-system-running', '--wait'])
    const orphans = 'i=0; while [ $i -lt 1000 ]; do (true & ) ; i=$((i+1)); done'
    await engine.exec(id, ['sh', '-c', orphans])
    await engine.until(id, ['sh', '-c', '! grep -l "State:.Z" /proc/[0-9]*/status 2>/dev/null'])
  })

  it('is refused for an image without systemd', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({
      dir: dir.path,
      runtime: 'crun',
      images: { bare: { tree: join(tree, 'etc'), config: { Cmd: ['/bin/sh'] } } },
    })
    const { id } = await engine.runtime.containers.create({ image: 'bare', rich: 'systemd', network: 'none' })
    await failsWith('BAD_ARGUMENT', engine.runtime.containers.startContainer(id, { signal: never }))
  })
})
