// vm: a host as users have it: pure cgroup v2 under systemd, AppArmor, every capability
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { readCgroupLayout } from '../../../runtime/spec/cgroups.ts'
import { CAPABILITY_NAMES, readHostLimits } from '../../../runtime/spec/host-limits.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { CGROUP } from '../../fixtures/host/test-cgroup.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'

const run = promisify(execFile)
const never = new AbortController().signal
const MIB = 1 << 20
const ROOT = '/sys/fs/cgroup'

const layout = await readCgroupLayout()
const whyNot = () =>
  layout.kind === 'v2' ? undefined : `needs pure cgroup v2 (npm run test:vm), this is ${layout.kind}`

async function up(engine: RichEngine, request: Partial<CreateRequest>): Promise<string> {
  const { containers } = engine.runtime
  const { id } = await containers.create({ image: 'box', command: ['sleep', '100000'], network: 'none', ...request })
  await containers.startContainer(id, { signal: never })
  return id
}

/** The container's limits as the kernel has them. */
async function limitsOf(id: string, names: readonly string[]): Promise<Record<string, string>> {
  const read = names.map(async (name) => [name, (await readFile(join(ROOT, CGROUP, id, name), 'utf8')).trim()] as const)
  return Object.fromEntries(await Promise.all(read))
}

/** How many processes the kernel ended for memory when one takes twice what the container has. */
async function bite(engine: RichEngine, id: string): Promise<void> {
  const { output } = await engine.exec(id, [
    'sh',
    '-c',
    'dd if=/dev/zero of=/dev/null bs=64M count=1 2>&1; echo "ended $?"',
  ])
  assert.match(output, /^ended 137$/m)
}

describe('a host with cgroup v2 and systemd', () => {
  before(function () {
    needs(this, { root: true, other: whyNot })
  })

  it('has every controller that limits need, every capability, systemd and AppArmor', async () => {
    for (const name of ['cpu', 'cpuset', 'io', 'memory', 'pids']) assert.ok(layout.v2?.controllers.includes(name), name)
    const { capabilities } = await readHostLimits()
    assert.deepEqual(
      CAPABILITY_NAMES.filter((one) => !capabilities.has(one)),
      [],
    )
    assert.ok((await stat('/run/systemd/system')).isDirectory())
    assert.equal(await readFile('/sys/module/apparmor/parameters/enabled', 'utf8'), 'Y\n')
  })
})

for (const runtime of ['runc', 'crun']) {
  describe(`cgroup v2 under ${runtime}`, function () {
    this.timeout(120_000)
    before(function () {
      onStage(this, { programs: [runtime, 'conmon', 'busybox'] })
      needs(this, { other: whyNot })
    })

    it('puts what docker calls its limits into the kernel; an update changes what it names and no more', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const id = await up(engine, {
        resources: {
          memoryBytes: 64 * MIB,
          memorySwapBytes: 96 * MIB,
          memoryReservationBytes: 32 * MIB,
          nanoCpus: 500_000_000,
          cpuShares: 512,
          cpusetCpus: '1',
          pidsLimit: 50,
        },
      })
      const names = ['memory.max', 'memory.swap.max', 'memory.low', 'cpu.max', 'cpuset.cpus', 'pids.max']
      const wanted = {
        'memory.max': String(64 * MIB),
        'memory.swap.max': String(32 * MIB),
        'memory.low': String(32 * MIB),
        'cpu.max': '50000 100000',
        'cpuset.cpus': '1',
        'pids.max': '50',
      }
      assert.deepEqual(await limitsOf(id, names), wanted)
      const weightOf = async () => Number((await limitsOf(id, ['cpu.weight']))['cpu.weight'])
      const weight = await weightOf()
      assert.ok(weight >= 1 && weight < 100, `half of the usual shares are a weight of ${weight}`)
      await engine.runtime.containers.update(id, { resources: { pidsLimit: 60 } }, { signal: never })
      assert.deepEqual(await limitsOf(id, names), { ...wanted, 'pids.max': '60' })
      assert.equal(await weightOf(), weight)
    })

    it('limits as well where there is no service manager', async () => {
      await run('mount', ['-t', 'tmpfs', 'tmpfs', '/run/systemd']) // on this stage: for it, systemd isn't there
      try {
        await using dir = await aDir()
        const tree = await aBusyboxTree(dir.path)
        await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
        const id = await up(engine, { resources: { memoryBytes: 16 * MIB, memorySwapBytes: 16 * MIB } })
        await bite(engine, id)
        await engine.runtime.containers.stop(id, { timeoutSec: 0, signal: never })
        assert.equal(engine.runtime.containers.inspect(id).exitCode, 137)
      } finally {
        await run('umount', ['/run/systemd'])
      }
    })

    it("goes on when all of the agent's own cgroup is killed, as a service manager does at its stop", async () => {
      const service = join(ROOT, `darner-agent-${runtime}.service`)
      await using dir = await aDir()
      await mkdir(service)
      try {
        const own = (await readFile('/proc/self/cgroup', 'utf8')).trim().replace(/^0::/, '')
        await writeFile(join(service, 'cgroup.procs'), String(process.pid)) // what is started now is in it
        await using agent = await anEngineProcess({ dir: dir.path, runtime })
        await writeFile(join(ROOT, own, 'cgroup.procs'), String(process.pid))
        const command = ['sh', '-c', 'mkfifo /tmp/go; echo begun; read line < /tmp/go; echo over; exit 33']
        const { id } = await agent.client.create({ image: 'busybox', command }, { signal: never })
        await agent.client.start(id, { signal: never })
        await writeFile(join(service, 'cgroup.kill'), '1')
        await agent.ended
        await using engine = await anEngine({ dir: dir.path, defaultRuntime: runtime })
        const { containers, execs } = engine.runtime
        assert.equal(containers.inspect(id).status, 'running')
        const exec = execs.create(id, { command: ['sh', '-c', 'echo > /tmp/go'] })
        await using session = await execs.start(exec, { signal: never })
        await session.result // by a KILL, where the container's end came first
        assert.deepEqual(await containers.wait(id, { signal: never }), { exitCode: 33 })
        let log = ''
        for await (const { bytes } of containers.logs(id, {}, { signal: never })) log += Buffer.from(bytes).toString()
        assert.equal(log, 'begun\nover\n')
      } finally {
        await rmdir(service)
      }
    })

    it("runs under darner's AppArmor profile, whether the runtime has one of Debian's or not (row 12)", async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const confined = async (request: Partial<CreateRequest> = {}) => {
        const id = await up(engine, request)
        return (await engine.exec(id, ['cat', '/proc/1/attr/current', '/proc/self/attr/current'])).output.trim()
      }
      const ours = 'darner-default (enforce)\ndarner-default (enforce)'
      assert.equal(await confined(), ours)
      for (const request of [{ apparmor: 'unconfined' }, { privileged: true }])
        assert.equal(await confined(request), 'unconfined\nunconfined')
      await failsWith('HOST_UNABLE', up(engine, { apparmor: 'no-such' }), /no-such is not loaded/)
      const profile = `/etc/apparmor.d/${runtime}`
      await run('apparmor_parser', ['--replace', '--skip-cache', profile])
      try {
        assert.equal(await confined(), ours)
      } finally {
        await run('apparmor_parser', ['--remove', profile])
      }
    })
  })
}
