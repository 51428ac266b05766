// vm: limits that bite under pure cgroup v2
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { readCgroupLayout } from '../../../runtime/spec/cgroups.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { CGROUP } from '../../fixtures/host/test-cgroup.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'
import { until } from '../../fixtures/until.ts'

const run = promisify(execFile)
const never = new AbortController().signal
const MIB = 1 << 20

async function up(engine: RichEngine, request: Partial<CreateRequest>): Promise<string> {
  const { id } = await engine.runtime.containers.create({ image: 'box', network: 'none', ...request })
  await engine.runtime.containers.startContainer(id, { signal: never })
  return id
}

/** A file of the container's cgroup; `v1` is the hierarchy and the file's name there. */
async function cgroupFile(id: string, v2: string, v1: readonly [hierarchy: string, name: string]): Promise<string> {
  const layout = await readCgroupLayout()
  const of = layout.v1.get(v1[0])
  const [root, name] = of === undefined ? [layout.v2?.path ?? '', v2] : [of, v1[1]]
  return readFile(join(root, CGROUP, id, name), 'utf8')
}

/** The disk's node that a path lies on, where that is a block device. */
async function deviceOf(path: string): Promise<string | undefined> {
  const { stdout } = await run('findmnt', ['-n', '-o', 'SOURCE', '--target', path])
  const source = stdout.trim()
  return source.startsWith('/dev/') && (await stat(source)).isBlockDevice() ? source : undefined
}

const numberOf = (text: string, name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])

for (const runtime of ['runc', 'crun']) {
  describe(`limits under ${runtime}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { programs: [runtime, 'conmon', 'busybox'] })
    })

    it('ends who takes more memory than it has; inspect and an event say so', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const { containers, events } = engine.runtime
      const resources = { memoryBytes: 16 * MIB, memorySwapBytes: 16 * MIB }
      const id = await up(engine, { command: ['tail', '-c', '100000000', '/dev/zero'], resources })
      assert.equal((await containers.wait(id, { signal: never })).exitCode, 137)
      assert.equal(containers.entry(id).record.oomKilled, true)
      const told: string[] = []
      for await (const one of events.read({ sinceMs: 0, untilMs: Date.now(), signal: never })) told.push(one.action)
      assert.equal(told.filter((one) => one === 'oom').length, 1)
    })

    it('says so too when conmon ends without having said it', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const { containers } = engine.runtime
      const resources = { memoryBytes: 16 * MIB, memorySwapBytes: 16 * MIB }
      const hog = 'until [ -e /go ]; do sleep 0.05; done; exec tail -c 100000000 /dev/zero'
      const id = await up(engine, { command: ['sh', '-c', hog], resources })
      await symlink('/nonexistent/oom', join(containers.entry(id).bundle.path, 'oom')) // so that conmon can't make its file
      await engine.exec(id, ['touch', '/go'])
      assert.equal((await containers.wait(id, { signal: never })).exitCode, 137)
      assert.equal(containers.entry(id).record.oomKilled, true)
    })

    it('tells of a process that is ended for memory beside the first, which goes on', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const resources = { memoryBytes: 32 * MIB, memorySwapBytes: 32 * MIB }
      const command = ['sh', '-c', 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo "ended $?"; exec sleep 100000']
      const id = await up(engine, { command, resources })
      for await (const event of engine.runtime.events.read({ sinceMs: 0, signal: never })) {
        if (event.action !== 'oom') continue
        assert.deepEqual([event.id, event.attributes.kills], [id, '1'])
        break
      }
      const { status, oomKills } = engine.runtime.containers.inspect(id)
      assert.deepEqual([status, oomKills], ['running', 1])
      await until(async () => /^ended 137$/m.test(await engine.logOf(id)))
    })

    it('holds the CPU back, and again when the limit is changed under way', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const id = await up(engine, {
        command: ['sh', '-c', 'while :; do :; done'],
        resources: { nanoCpus: 100_000_000 },
      })
      const statistics = () => cgroupFile(id, 'cpu.stat', ['cpu', 'cpu.stat'])
      const throttled = async () => numberOf(await statistics(), 'nr_throttled')
      const throttledBy = async (more: number) => {
        await until(async () => (await throttled()) > more)
      }
      await throttledBy(0)
      const measured = async () => {
        const text = await statistics()
        const used =
          numberOf(text, 'usage_usec') || Number(await cgroupFile(id, '', ['cpuacct', 'cpuacct.usage'])) / 1000
        return { periods: numberOf(text, 'nr_periods'), used }
      }
      const first = await measured()
      await throttledBy((await throttled()) + 20)
      const last = await measured()
      const share = (last.used - first.used) / (last.periods - first.periods) / 100_000
      assert.ok(share < 0.15, `it took ${share.toFixed(3)} of a CPU, of which it may have 0.1`)
      const quota = async () => (await cgroupFile(id, 'cpu.max', ['cpu', 'cpu.cfs_quota_us'])).trim().split(' ')[0]
      assert.equal(await quota(), '10000')
      await engine.runtime.containers.update(id, { resources: { nanoCpus: 50_000_000 } }, { signal: never })
      assert.equal(await quota(), '5000')
      await throttledBy(await throttled())
    })

    it('lets no more processes be than it may have', async () => {
      await using dir = await aDir()
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const id = await up(engine, { command: ['sleep', '100000'], resources: { pidsLimit: 12 } })
      const { output } = await engine.exec(id, [
        'sh',
        '-c',
        'i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done 2>&1',
      ])
      assert.match(output, /can't fork/)
      assert.ok(numberOf(await cgroupFile(id, 'pids.events', ['pids', 'pids.events']), 'max') > 0)
    })

    it('slows the writes to a device to what they may take', async function () {
      await using dir = await aDir()
      const device = await deviceOf(dir.path)
      needs(this, { other: () => (device === undefined ? `needs ${tmpdir()} on a block device` : undefined) })
      const tree = await aBusyboxTree(dir.path)
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { box: { tree } } })
      const rate = 128 * 1024
      const slow = { blkioRates: [{ path: device ?? '', what: 'writeBps' as const, rate }] }
      // past the page cache: v1 charges nothing else; by a clock of its own
      const write = 'dd if=/dev/zero of=/fill bs=64k count=8 oflag=direct'
      const command = ['sh', '-c', `cat /proc/uptime; ${write} && cat /proc/uptime && sleep 100000`]
      const id = await up(engine, { command, resources: slow })
      const limit = await cgroupFile(id, 'io.max', ['blkio', 'blkio.throttle.write_bps_device'])
      assert.match(limit, /^\d+:\d+ (131072|rbps=max wbps=131072 riops=max wiops=max)$/m)
      const uptimes: number[] = []
      for await (const { stream, bytes } of engine.runtime.containers.logs(id, { follow: true }, { signal: never })) {
        if (stream === 'stdout') uptimes.push(Number(Buffer.from(bytes).toString().split(' ')[0]))
        if (uptimes.length === 2) break
      }
      assert.equal(uptimes.length, 2, await engine.logOf(id))
      const [before = 0, after = 0] = uptimes
      assert.ok((8 * 65_536) / (after - before) < rate * 1.5, `it took ${after - before} s`)
    })
  })
}
