import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { whyNoLimit } from '../../../runtime/quota/fill.ts'
import { quotaMetrics } from '../../../runtime/quota/metrics.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { systemCode } from '../../../src/core/errors.ts'
import { aRichEngine, type RichEngine } from '../../fixtures/engine/a-rich-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aSystemdImage } from '../../fixtures/images/a-systemd-image.ts'

const never = new AbortController().signal
const MIB = 1 << 20
const QUOTA = { bytes: 10 * MIB, inodes: 1000 }

/** The name of the loop device that is mounted there. */
async function loopBelow(target: string): Promise<string | undefined> {
  const rows = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((row) => row.split(' '))
  const row = rows.find((words) => words[4] === target)
  return /\/dev\/(loop\d+)/.exec(row?.join(' ') ?? '')?.[1]
}

describe('disk quota by a pool of files', function () {
  this.timeout(300_000)
  let tree = ''
  before(async function () {
    onStage(this, { programs: ['runc', 'crun', 'conmon', 'mkfs.ext4', 'debootstrap'] })
    tree = await aSystemdImage()
  })

  async function up(engine: RichEngine, diskQuota = QUOTA): Promise<string> {
    const { containers } = engine.runtime
    const { id } = await containers.create({ image: 'debian', command: ['sleep', '1000'], network: 'none', diskQuota })
    await containers.startContainer(id, { signal: never })
    return id
  }

  for (const runtime of ['runc', 'crun']) {
    it(`stops bytes and inodes where it says under ${runtime}; df tells them, and a neighbour goes on`, async () => {
      await using dir = await aDir()
      await using engine = await aRichEngine({ dir: dir.path, runtime, images: { debian: { tree } } })
      const view = await engine.runtime.quotas.initPool(256 * MIB, { signal: never })
      assert.equal(view.way, 'pool')
      const id = await up(engine)
      const neighbour = await up(engine)
      const shell = async (command: string) => engine.exec(id, ['sh', '-c', command])

      const { output } = await shell('dd if=/dev/zero of=/fill bs=4096 count=10000 2>&1; stat -c %s /fill')
      assert.match(output, /No space left on device/)
      const written = Number(output.trim().split('\n').at(-1))
      assert.ok(written > 9.8 * MIB && written < 10.3 * MIB, `${written} bytes were written`)
      const total = Number((await shell('df -B1 --output=size / | tail -1')).output)
      assert.ok(total > 9.8 * MIB && total < 10.5 * MIB, `df says ${total}`)
      assert.equal((await engine.exec(neighbour, ['sh', '-c', 'echo fine > /here'])).exitCode, 0)

      await shell('rm /fill')
      const made = (await shell('mkdir /many; cd /many; seq 5000 | xargs touch 2>&1 | tail -1; ls /many | wc -l'))
        .output
      assert.match(made, /No space left on device/)
      const count = Number(made.trim().split('\n').at(-1))
      assert.ok(count > 950 && count <= 1040, `${count} files were made`)
      const inodes = Number((await shell('df --output=itotal / | tail -1')).output)
      assert.ok(inodes >= 1000 && inodes <= 1056, `df -i says ${inodes}`)
      assert.equal((await engine.exec(neighbour, ['touch', '/there'])).exitCode, 0)
    })
  }

  it('keeps what was written over a stop, a start and a restart of the agent, and takes the promise back at the end', async () => {
    await using dir = await aDir()
    const given = { dir: dir.path, runtime: 'crun', images: { debian: { tree } } }
    const first = await aRichEngine(given)
    await first.runtime.quotas.initPool(64 * MIB, { signal: never })
    const id = await up(first)
    await first.exec(id, ['sh', '-c', 'echo kept > /kept'])
    await first.runtime.containers.stop(id, { timeoutSec: 0, signal: never })
    await first.leave()
    await using engine = await aRichEngine(given)
    const { containers, quotas } = engine.runtime
    await containers.startContainer(id, { signal: never })
    assert.equal((await engine.exec(id, ['cat', '/kept'])).output, 'kept\n')
    assert.match(
      (await engine.exec(id, ['sh', '-c', 'dd if=/dev/zero of=/fill bs=1M count=20 2>&1'])).output,
      /No space/,
    )
    await containers.remove(id, { force: true, signal: never })
    assert.equal((await quotas.view()).promisedBytes, 0)
  })

  it('goes round the page cache of the host, where the file system below can', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    await engine.runtime.quotas.initPool(64 * MIB, { signal: never })
    const id = await up(engine)
    const device = await loopBelow(join(dir.path, 'rootfs', id, 'rw'))
    const of = (name: string) => readFile(`/sys/block/${device}/loop/${name}`, 'utf8')
    assert.match(await of('backing_file'), new RegExp(`${id}\\.ext4`))
    assert.deepEqual([await of('dio'), await of('autoclear')], ['1\n', '1\n'])
  })

  it('lets the kernel hold writes of the loop back no more than those of the disk below, while it is used', async function () {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    await engine.runtime.quotas.initPool(64 * MIB, { signal: never })
    const id = await up(engine)
    const device = await loopBelow(join(dir.path, 'rootfs', id, 'rw'))
    const held = async () => Number(await readFile(`/sys/block/${device}/queue/wbt_lat_usec`, 'utf8'))
    const first = await held().catch((error: unknown) => {
      if (['ENOENT', 'EINVAL'].includes(systemCode(error) ?? '')) return undefined
      throw error
    })
    if (first === undefined) return needs(this, { other: () => 'needs a kernel that holds writes back (wbt)' })
    assert.equal(first, 0)
    await engine.runtime.containers.stop(id, { timeoutSec: 0, signal: never })
    const restored = (await held()) !== 0
    // it is free for others now, another pool's too
    assert.ok(restored || existsSync(`/sys/block/${device}/loop/backing_file`))
  })

  it('promises no more than the pool has', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    await engine.runtime.quotas.initPool(20 * MIB, { signal: never })
    await up(engine)
    await failsWith('LIMIT_EXCEEDED', up(engine))
    await engine.runtime.quotas.initPool(64 * MIB, { signal: never })
    await up(engine)
  })

  it('makes the file anew when the machine stopped in the middle, and removes files that nobody owns', async () => {
    await using dir = await aDir()
    const given = { dir: dir.path, runtime: 'crun', images: { debian: { tree } } }
    const first = await aRichEngine(given)
    await first.runtime.quotas.initPool(64 * MIB, { signal: never })
    const id = await up(first)
    await first.runtime.containers.stop(id, { timeoutSec: 0, signal: never })
    await first.leave()
    await rm(join(dir.path, 'quota', `${id}.json`)) // as if it had come to the promise only
    await writeFile(join(dir.path, 'quota', `${id}.ext4`), 'half made')
    await writeFile(join(dir.path, 'quota', 'stranger.ext4'), 'left over')
    await using engine = await aRichEngine(given)
    await engine.runtime.containers.startContainer(id, { signal: never })
    await assert.rejects(readFile(join(dir.path, 'quota', 'stranger.ext4')), { code: 'ENOENT' })
    const { blocks, bsize } = await statfs(join(dir.path, 'rootfs', id, 'rw'))
    assert.ok(blocks * bsize < 12 * MIB)
  })

  it('holds for what is mounted before the first start, also by the next agent', async () => {
    await using dir = await aDir()
    const given = { dir: dir.path, runtime: 'crun', images: { debian: { tree } } }
    const first = await aRichEngine(given)
    await first.runtime.quotas.initPool(64 * MIB, { signal: never })
    const { id } = await first.runtime.containers.create({ image: 'debian', command: ['true'], diskQuota: QUOTA })
    await first.leave()
    await using engine = await aRichEngine(given)
    const { quotas } = engine.runtime
    const { upper } = await quotas.mount(id, [digestOf('debian')], { readonly: false, signal: never })
    const { blocks, bsize } = await statfs(upper)
    assert.ok(blocks * bsize < 12 * MIB)
    await quotas.unmount(id)
  })

  it('keeps a volume to its size, over a restart of the agent, and for the next container that has it', async () => {
    await using dir = await aDir()
    const given = { dir: dir.path, runtime: 'crun', images: { debian: { tree } } }
    const first = await aRichEngine(given)
    await first.runtime.quotas.initPool(64 * MIB, { signal: never })
    const command = ['sleep', '1000']
    const mounts = [{ type: 'volume' as const, source: 'full', target: '/data' }]
    const request = { image: 'debian', command, network: 'none', mounts }
    const made = await first.runtime.containers.create({ ...request, volumeQuotas: { '/data': QUOTA } })
    await first.leave()
    await using engine = await aRichEngine(given)
    const { containers, quotas } = engine.runtime
    await containers.startContainer(made.id, { signal: never })
    const fill = 'dd if=/dev/zero of=/data/fill bs=1M count=20 2>&1; stat -c %s /data/fill'
    const { output } = await engine.exec(made.id, ['sh', '-c', fill])
    assert.match(output, /No space left on device/)
    const written = Number(output.trim().split('\n').at(-1))
    assert.ok(written > 9.8 * MIB && written < 10.3 * MIB, `${written} bytes were written`)
    assert.equal((await engine.exec(made.id, ['sh', '-c', 'echo fine > /elsewhere'])).exitCode, 0)
    const sizes = (await engine.exec(made.id, ['sh', '-c', 'df -B1 --output=size,used,itotal /data | tail -1'])).output
    const [total = 0, used = 0, inodes = 0] = sizes.trim().split(/\s+/).map(Number)
    assert.ok(total > 9.8 * MIB && total < 10.5 * MIB && used >= written, `df says ${total} and ${used}`)
    assert.ok(inodes >= 1000 && inodes <= 1056, `df -i says ${inodes}`)
    const touch =
      'cd /data; rm fill; seq 5000 | xargs touch 2>&1 | tail -1; ls | wc -l; seq 5000 | xargs rm -f; dd if=/dev/zero of=fill bs=4096 count=5000 2>/dev/null'
    const touched = (await engine.exec(made.id, ['sh', '-c', touch])).output
    assert.match(touched, /No space left on device/)
    const count = Number(touched.trim().split('\n').at(-1))
    assert.ok(count > 950 && count <= 1040, `${count} files were made`)
    assert.equal((await engine.exec(made.id, ['touch', '/elsewhere-too'])).exitCode, 0)
    await containers.remove(made.id, { force: true, signal: never })
    const { id } = await containers.create(request)
    await containers.startContainer(id, { signal: never })
    const more = await engine.exec(id, ['dd', 'if=/dev/zero', 'of=/data/more', 'bs=64k', 'count=1'])
    assert.match(more.output, /No space left on device/)
    await failsWith('CONFLICT', containers.create({ ...request, volumeQuotas: { '/data': { bytes: 20 * MIB } } }))
    await failsWith('BAD_ARGUMENT', containers.create({ ...request, volumeQuotas: { '/other': QUOTA } }), /no volume/)
    await containers.remove(id, { force: true, signal: never })
    assert.ok(((await quotas.view()).promisedBytes ?? 0) > 0)
    await containers.volumes.remove('full')
    assert.equal((await quotas.view()).promisedBytes, 0)
  })

  it('tells what is used of layer, volume and log, also as metrics', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    await engine.runtime.quotas.initPool(64 * MIB, { signal: never })
    const { containers } = engine.runtime
    const { id } = await containers.create({
      image: 'debian',
      name: 'told',
      command: ['sh', '-c', 'echo said; exec sleep 1000'],
      network: 'none',
      diskQuota: QUOTA,
      mounts: [{ type: 'volume', source: 'kept', target: '/data' }],
      volumeQuotas: { '/data': { bytes: 5 * MIB } },
    })
    await containers.startContainer(id, { signal: never })
    const write = 'head -c 2M /dev/zero > /here; head -c 4M /dev/zero > /data/there; sync'
    await engine.exec(id, ['sh', '-c', write])
    const uses = new Map((await engine.runtime.diskUse(id)).map((one) => [one.path, one]))
    assert.deepEqual([...uses.keys()], ['/', '/data', 'log'])
    const [layer, volume, log] = [...uses.values()]
    assert.ok(layer && layer.bytes.used >= 2 * MIB && layer.bytes.used < 3 * MIB, JSON.stringify(layer))
    assert.ok(layer.inodes && layer.inodes.used > 0 && layer.inodes.limit >= 1000)
    assert.ok(volume && volume.bytes.used >= 4 * MIB && volume.bytes.limit < 6 * MIB, JSON.stringify(volume))
    assert.equal(log?.bytes.limit, QUOTA.bytes)
    const measured = [{ name: 'told', uses: () => engine.runtime.diskUse(id) }]
    const { text } = await quotaMetrics(measured)
    assert.match(text, /^darner_disk_used_bytes\{container="told",path="\/data"\} \d{7}$/m)
    assert.match(text, /^darner_disk_inodes_limit_count\{container="told",path="\/"\} 1\d{3}$/m)
    await containers.stop(id, { timeoutSec: 0, signal: never })
    assert.deepEqual(await engine.runtime.diskUse(id), [])
    await containers.remove(id, { force: true, signal: never })
    await containers.volumes.remove('kept')
  })

  it('is refused for folders of the host and of the image', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    await engine.runtime.quotas.initPool(64 * MIB, { signal: never })
    const mounts = [{ type: 'bind' as const, source: dir.path, target: '/data' }]
    const create = (path: string) =>
      engine.runtime.containers.create({ image: 'debian', command: ['true'], mounts, volumeQuotas: { [path]: QUOTA } })
    await failsWith('BAD_ARGUMENT', create('/data'), /a folder of this host is mounted there/)
    await failsWith('BAD_ARGUMENT', create('/var'), /no volume is mounted there/)
  })

  it('takes back what a volume left that was half made or half removed when the agent ended', async () => {
    await using dir = await aDir()
    const given = { dir: dir.path, runtime: 'crun', images: { debian: { tree } } }
    const first = await aRichEngine(given)
    await first.runtime.quotas.initPool(64 * MIB, { signal: never })
    const { volumes } = first.runtime.containers
    const { path } = await volumes.ensure('half', { now: 0, options: { size: '10m' } })
    await first.leave()
    await rm(join(path, '../volume.json')) // the record goes first
    await using engine = await aRichEngine(given)
    assert.equal((await engine.runtime.quotas.view()).promisedBytes, 0)
    await engine.runtime.containers.volumes.ensure('half', { now: 0, options: { size: '12m' } })
    const { blocks, bsize } = await statfs(path)
    assert.ok(blocks * bsize > 11 * MIB && blocks * bsize < 13 * MIB)
    await engine.runtime.containers.volumes.remove('half')
  })

  it('stays as it was made: another quota is refused', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    await engine.runtime.quotas.initPool(64 * MIB, { signal: never })
    const id = await up(engine)
    const diskQuota = { bytes: 20 * MIB }
    await failsWith(
      'UNSUPPORTED',
      engine.runtime.containers.update(id, { diskQuota }, { signal: never }),
      /file of the pool/,
    )
  })

  it('is not believed where limits do not bite', async () => {
    await using dir = await aDir()
    assert.equal(await whyNoLimit(dir.path, { signal: never }), 'more bytes than the limit could be written')
  })

  it('is refused at create where nothing can enforce it', async () => {
    await using dir = await aDir()
    await using engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images: { debian: { tree } } })
    const asked = engine.runtime.containers.create({ image: 'debian', diskQuota: QUOTA })
    await failsWith('HOST_UNABLE', asked, /nothing can enforce it here: this host has no quota pool/)
  })
})
