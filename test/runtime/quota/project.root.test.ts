// vm: project quotas of xfs and ext4
// deadline: 300 s
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ProjectQuota, projectFileSystem } from '../../../runtime/quota/project.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aQuotaDisk, whyNoQuotaDisk } from '../../fixtures/host/a-quota-disk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aBusyboxTree } from '../../fixtures/images/a-busybox-tree.ts'

const run = promisify(execFile)
const never = new AbortController().signal
const MIB = 1 << 20
const QUOTA = { bytes: 10 * MIB, inodes: 1000 }
/** What stops a writer: xfs says the one of its projects, ext4 the other. */
const FULL = /No space left on device|[Qq]uota exceeded/

async function up(engine: RichEngine, request: object): Promise<string> {
  const { containers } = engine.runtime
  const { id } = await containers.create({ image: 'box', command: ['sleep', '100000'], network: 'none', ...request })
  await containers.startContainer(id, { signal: never })
  return id
}

/** Looks again until the log says so; the test's own timeout is the deadline. */
async function untilLogged(engine: RichEngine, id: string, what: RegExp): Promise<void> {
  while (!what.test(await engine.logOf(id))) await new Promise((resolve) => setTimeout(resolve, 50))
}

for (const kind of ['ext4', 'xfs'] as const) {
  describe(`disk quota by projects of ${kind}`, function () {
    this.timeout(120_000)
    before(async function () {
      onStage(this, { programs: ['runc', 'crun', 'conmon', 'busybox', `mkfs.${kind}`, 'setquota', 'xfs_quota'] })
      const why = await whyNoQuotaDisk(kind)
      // in the virtual machine they must be there
      if (process.env.DARNER_TEST_VM === undefined) needs(this, { other: () => why })
      else assert.equal(why, undefined)
    })

    for (const runtime of ['runc', 'crun']) {
      it(`stops bytes and inodes where it says under ${runtime}; df tells them, and a neighbour goes on`, async () => {
        await using disk = await aQuotaDisk(kind)
        await using images = await aDir()
        const tree = await aBusyboxTree(images.path)
        await using engine = await aRichEngine({ dir: disk.path, runtime, images: { box: { tree } } })
        assert.deepEqual(await engine.runtime.quotas.view(), { way: 'project' })
        const id = await up(engine, { diskQuota: QUOTA })
        const neighbour = await up(engine, { diskQuota: QUOTA })
        const shell = async (command: string) => engine.exec(id, ['sh', '-c', command])

        const { output } = await shell('dd if=/dev/zero of=/fill bs=4096 count=10000 2>&1; stat -c %s /fill')
        assert.match(output, FULL)
        const written = Number(output.trim().split('\n').at(-1))
        assert.ok(written > 9.8 * MIB && written <= 10 * MIB, `${written} bytes were written`)
        const [, size, used] = (await shell('df -k / | tail -1')).output.trim().split(/\s+/).map(Number)
        assert.equal(size, 10 * 1024)
        assert.ok(Number(used) >= 9.8 * 1024, `df says ${used} KiB are used`)
        assert.equal((await engine.exec(neighbour, ['sh', '-c', 'echo fine > /here'])).exitCode, 0)

        await shell('rm /fill')
        const made = (await shell('mkdir /many; cd /many; seq 5000 | xargs touch 2>&1 | tail -1; ls | wc -l')).output
        assert.match(made, FULL)
        const count = Number(made.trim().split('\n').at(-1))
        assert.ok(count > 950 && count <= 1000, `${count} files were made`)
        const [, inodes] = (await shell('df -i / | tail -1')).output.trim().split(/\s+/).map(Number)
        assert.ok(Number(inodes) >= 1000 && Number(inodes) <= 1010, `df -i says ${inodes}`)
        assert.equal((await engine.exec(neighbour, ['touch', '/there'])).exitCode, 0)
      })
    }

    it('holds over a stop, a start and a restart of the agent; an id comes back into use only after its limit is gone', async () => {
      await using disk = await aQuotaDisk(kind)
      await using images = await aDir()
      const tree = await aBusyboxTree(images.path)
      const given = { dir: disk.path, runtime: 'crun', images: { box: { tree } } }
      const first = await aRichEngine(given)
      const id = await up(first, { diskQuota: QUOTA })
      await first.exec(id, ['sh', '-c', 'dd if=/dev/zero of=/kept bs=1M count=6 2>&1'])
      await first.runtime.containers.stop(id, { timeoutSec: 0, signal: never })
      await first.leave()
      await using engine = await aRichEngine(given)
      const { containers } = engine.runtime
      await containers.startContainer(id, { signal: never })
      assert.match((await engine.exec(id, ['sh', '-c', 'dd if=/dev/zero of=/fill bs=1M count=6 2>&1'])).output, FULL)
      const idOf = async (one: string) => {
        const { used } = JSON.parse(await readFile(join(disk.path, 'quota/projects.json'), 'utf8'))
        return used[one] as number | undefined
      }
      const other = await up(engine, { diskQuota: QUOTA })
      const [one, two] = [await idOf(id), await idOf(other)]
      assert.ok(one !== undefined && two !== undefined && one !== two)
      await containers.remove(id, { force: true, signal: never })
      assert.equal(await idOf(id), undefined)
      const { stdout } = await run('repquota', ['-P', '-n', disk.path]).catch(() =>
        run('xfs_quota', ['-x', '-c', 'report -p -n', disk.path]),
      )
      const row = stdout.split('\n').find((line) => line.startsWith(`#${one} `)) // none, or one without limits
      assert.match(row ?? `#${one} 0 0 0`, /^#\d+\s+(--\s+)?\d+\s+0\s+0\b/)
      assert.notEqual(await idOf(await up(engine, { diskQuota: QUOTA })), one)
    })

    it('is changed at once by an update, also for a container that had none; nine tenths are told of', async () => {
      await using disk = await aQuotaDisk(kind)
      await using images = await aDir()
      const tree = await aBusyboxTree(images.path)
      await using engine = await aRichEngine({ dir: disk.path, runtime: 'crun', images: { box: { tree } } })
      const { containers, quotas } = engine.runtime
      const id = await up(engine, {})
      const write = (mib: number) => engine.exec(id, ['dd', 'if=/dev/zero', `of=/fill-${mib}`, 'bs=1M', `count=${mib}`])
      assert.equal((await write(6)).exitCode, 0)
      const update = (bytes: number) => containers.update(id, { diskQuota: { bytes, inodes: 1000 } }, { signal: never })
      await update(8 * MIB)
      assert.match((await write(5)).output, FULL)
      const told = new AbortController()
      for await (const event of engine.runtime.events.read({ sinceMs: 0, signal: told.signal })) {
        if (event.action !== 'quota_warning') continue
        assert.equal(event.id, id)
        assert.equal(event.attributes.limit, String(8 * MIB))
        break
      }
      await update(32 * MIB)
      assert.equal((await write(15)).exitCode, 0)
      assert.deepEqual((await quotas.usage(id))?.bytes.limit, 32 * MIB)
      assert.deepEqual(containers.entry(id).record.request.diskQuota, { bytes: 32 * MIB, inodes: 1000 })
    })

    it('keeps a volume to its size and its files, which its writers see, and another volume apart', async () => {
      await using disk = await aQuotaDisk(kind)
      await using images = await aDir()
      const tree = await aBusyboxTree(images.path)
      await using engine = await aRichEngine({ dir: disk.path, runtime: 'crun', images: { box: { tree } } })
      const mounts = [
        { type: 'volume', source: 'full', target: '/data' },
        { type: 'volume', source: 'beside', target: '/beside' },
      ]
      const id = await up(engine, { mounts, volumeQuotas: { '/data': QUOTA, '/beside': QUOTA } })
      const { output } = await engine.exec(id, [
        'sh',
        '-c',
        'dd if=/dev/zero of=/data/fill bs=1M count=20 2>&1; df -k /data',
      ])
      assert.match(output, FULL)
      assert.match(output, /\s10240\s+10\d\d\d\s+\d+\s+(99|100)% /)
      assert.equal(
        (await engine.exec(id, ['sh', '-c', 'echo fine > /elsewhere && echo fine > /beside/file'])).exitCode,
        0,
      )
      const touches = 'rm /data/fill; cd /data; seq 2000 | xargs touch 2>&1 | tail -1; df -i /data; ls | wc -l'
      const made = (await engine.exec(id, ['sh', '-c', touches])).output
      assert.match(made, FULL)
      assert.match(made, /\s10(00|0\d|10)\s+(99\d|10\d\d)\s+\d+\s+(99|100)% /)
      const count = Number(made.trim().split('\n').at(-1))
      assert.ok(count > 950 && count <= 1004, `${count} files were made`)
      assert.equal((await engine.exec(id, ['sh', '-c', 'touch /elsewhere-too /beside/another'])).exitCode, 0)
      await engine.runtime.containers.remove(id, { force: true, signal: never })
      for (const name of ['full', 'beside']) await engine.runtime.containers.volumes.remove(name)
      const { used } = JSON.parse(await readFile(join(disk.path, 'quota/projects.json'), 'utf8'))
      assert.deepEqual(used, {})
    })

    it('bounds the log of a container that floods it, and what writes to its folder; the container and a neighbour go on', async () => {
      await using disk = await aQuotaDisk(kind)
      await using images = await aDir()
      const tree = await aBusyboxTree(images.path)
      await using engine = await aRichEngine({ dir: disk.path, runtime: 'crun', images: { box: { tree } } })
      const { containers } = engine.runtime
      const flood = 'dd if=/dev/zero bs=1M count=30 2>/dev/null | tr "\\0" x; echo; echo the last; exec sleep 100000'
      const id = await up(engine, { diskQuota: QUOTA, command: ['sh', '-c', flood] })
      const calm = await up(engine, { diskQuota: QUOTA, command: ['sh', '-c', 'echo calm; exec sleep 100000'] })
      await untilLogged(engine, id, /the last\n$/)
      const { status, logPath } = containers.inspect(id)
      assert.equal(status, 'running')
      const [log] = (await engine.runtime.diskUse(id)).filter(({ path }) => path === 'log')
      assert.equal(log?.bytes.limit, 10 * MIB)
      assert.ok(log.bytes.used > 1000 && log.bytes.used <= 10 * MIB, `${log.bytes.used} bytes of log`)

      const beyond = join(dirname(logPath), 'log.beyond')
      const more = ['dd', 'if=/dev/zero', `of=${beyond}`, 'bs=64k', 'count=640']
      await assert.rejects(run('setpriv', ['--bounding-set', '-sys_resource', ...more]), FULL)
      assert.ok((await stat(beyond)).size < 27 * MIB)
      await rm(beyond)
      await untilLogged(engine, calm, /^calm\n$/)
      assert.equal((await engine.exec(calm, ['touch', '/there'])).exitCode, 0)
      for (const one of [id, calm]) await containers.remove(one, { force: true, signal: never })
      const { used } = JSON.parse(await readFile(join(disk.path, 'quota/projects.json'), 'utf8'))
      assert.deepEqual(used, {})
    })

    it('puts what is there already under its limit, links and devices beside it, also when it was begun before', async () => {
      await using disk = await aQuotaDisk(kind)
      const folder = join(disk.path, 'there')
      const book = join(disk.path, 'book')
      await mkdir(join(folder, 'deep/er'), { recursive: true })
      await mkdir(book)
      await run('ln', ['-s', '/nowhere', join(folder, 'link')])
      await run('mkfifo', [join(folder, 'pipe')])
      await writeFile(join(folder, 'deep/er/file'), Buffer.alloc(3 * MIB, 1))
      const system = projectFileSystem(await readFile('/proc/self/mountinfo', 'utf8'), folder)
      assert.ok(system)
      const quota = await ProjectQuota.open(book, system)
      await quota.apply('box', folder, { bytes: 4 * MIB }, { signal: never })
      await quota.apply('box', folder, { bytes: 4 * MIB }, { signal: never })
      const write = async (mib: number) =>
        run('setpriv', [
          '--bounding-set',
          '-sys_resource',
          'dd',
          'if=/dev/zero',
          `of=${folder}/deep/er/more`,
          'bs=1M',
          `count=${mib}`,
        ])
      await assert.rejects(write(3), FULL)
      await quota.apply('box', folder, { bytes: 8 * MIB }, { signal: never }) // at once, and nothing written is lost
      await write(3)
      await quota.release('box', { signal: never })
      await write(12)
    })
  })
}
