// vm: what lxcfs tells under pure cgroup v2
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { lxcfsDevice, parseMountInfo } from '../../../runtime/lxcfs/mount-table.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { anLxcfs } from '../../fixtures/engine/an-lxcfs.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aSystemdImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const MIB = 1 << 20

const V2 = existsSync('/sys/fs/cgroup/cgroup.controllers')
/** os.cpus() counts those in /proc/stat, where under v2, which has no times by CPU, lxcfs leaves the host's; there Node looks at the quota. */
const NODE_CPUS = V2 ? 'os.availableParallelism()' : 'os.cpus().length'
/** The virtual machine has time for one. */
const RUNTIMES = V2 ? ['crun'] : ['runc', 'crun']

/** What the usual tools tell inside. */
async function told(engine: RichEngine, id: string): Promise<Record<string, string>> {
  const ask = async (command: string) => (await engine.exec(id, ['sh', '-c', command])).output.trim()
  const js = `const os = require("os"); console.log(os.totalmem() / 1048576, ${NODE_CPUS})`
  return {
    free: await ask("free -m | awk '/^Mem:/ {print $2}'"),
    top: await ask("COLUMNS=120 TERM=dumb top -b -n 1 | grep -o 'Mem : *[0-9.]* total'"),
    cpuinfo: await ask('grep -c ^processor /proc/cpuinfo'),
    online: await ask('cat /sys/devices/system/cpu/online'),
    node: await ask(`node -e '${js}'`),
    youngerThanHost: String(Number(await ask('cut -d. -f1 /proc/uptime')) < 3600 && /up/.test(await ask('uptime'))),
  }
}

const TRUTH = {
  free: '256',
  top: 'Mem :    256.0 total',
  cpuinfo: '1',
  online: '0',
  node: '256 1',
  youngerThanHost: 'true',
}

describe('lxcfs', function () {
  this.timeout(300_000)
  let tree = ''
  before(async function () {
    onStage(this, { programs: ['runc', 'crun', 'conmon', 'lxcfs', 'debootstrap'] })
    tree = await aSystemdImage()
  })

  for (const runtime of RUNTIMES) {
    it(`tells the truth under ${runtime}, before and after lxcfs was killed, without a restart of the container`, async () => {
      await using dir = await aDir()
      const options = { lxcfs: 'managed' }
      const config = { Cmd: ['sleep', 'infinity'], Env: ['PATH=/usr/local/bin:/usr/bin:/bin'] }
      const lxcfs = anLxcfs(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { debian: { tree, config } }, options })
      const { containers, events } = engine.runtime
      const { id } = await containers.create({
        image: 'debian',
        lxcfs: true,
        network: 'none',
        resources: { memoryBytes: 256 * MIB, nanoCpus: 1e9 },
        mounts: [
          { type: 'bind', source: await realpath(process.execPath), target: '/usr/local/bin/node', readonly: true },
        ],
      })
      await containers.startContainer(id, { signal: never })
      const { pid } = containers.inspect(id)
      assert.deepEqual(await told(engine, id), TRUTH)

      const before = await lxcfsDevice(lxcfs.folder)
      // looks all the while: an exec that begins later may find it mended already
      const noticed = engine.exec(id, ['sh', '-c', 'touch /looks; while cat /proc/meminfo; do :; done >/dev/null 2>&1'])
      await engine.until(id, ['test', '-e', '/looks'])
      process.kill(await lxcfs.pid(), 'SIGKILL')
      await noticed
      await engine.until(id, ['sh', '-c', 'cat /proc/meminfo /sys/devices/system/cpu/online'])
      assert.notEqual(await lxcfsDevice(lxcfs.folder), before)
      assert.deepEqual(await told(engine, id), TRUTH)
      assert.equal(containers.inspect(id).pid, pid)
      assert.ok(events)

      // nothing but the files of lxcfs is bound, and nothing of it can be written
      const rows = parseMountInfo(await readFile(`/proc/${pid}/mountinfo`, 'utf8')).filter(
        ({ type }) => type === 'fuse.lxcfs',
      )
      assert.equal(new Set(rows.map(({ target }) => target)).size, 8)
      assert.equal(rows.length, 8)
      assert.notEqual((await engine.exec(id, ['sh', '-c', 'echo 1 > /proc/uptime'])).exitCode, 0)
    })
  }

  it('is taken up again by the next agent, which mends what broke meanwhile', async () => {
    await using dir = await aDir()
    const config = { Cmd: ['sleep', 'infinity'], Env: ['PATH=/usr/bin:/bin'] }
    const given = {
      dir: dir.path,
      runtime: 'crun',
      images: { debian: { tree, config } },
      options: { lxcfs: 'managed' },
    }
    const lxcfs = anLxcfs(dir.path)
    const first = await aRichEngine(given)
    const { id } = await first.runtime.containers.create({ image: 'debian', lxcfs: true, network: 'none' })
    await first.runtime.containers.startContainer(id, { signal: never })
    await first.leave()
    process.kill(await lxcfs.pid(), 'SIGKILL')
    await using engine = await aRichEngine(given)
    await engine.until(id, ['cat', '/proc/meminfo'])
  })

  it('is refused when it was asked for by name and there is none, and left out of a rich container that did not ask', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({
      dir: dir.path,
      runtime: 'crun',
      images: { debian: { tree } },
      options: { lxcfs: join(dir.path, 'nowhere') },
    })
    const { containers } = engine.runtime
    const asked = containers.create({ image: 'debian', command: ['true'], lxcfs: true, network: 'none' })
    await failsWith('HOST_UNABLE', asked, /no lxcfs is mounted/)
    const rich = await containers.create({ image: 'debian', command: ['true'], rich: 'dumb-init', network: 'none' })
    await containers.startContainer(rich.id, { signal: never })
    assert.equal((await containers.wait(rich.id, { signal: never })).exitCode, 0)
  })
})
