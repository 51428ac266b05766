import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { onStage } from '../fixtures/host/a-stage.ts'
import { hostPrograms } from '../fixtures/host/host-programs.ts'
import type { TarEntry } from '../fixtures/images/a-tar.ts'
import { anImage, type Image, pushImage } from '../fixtures/images/an-image.ts'
import { aRegistry, type Registry } from '../fixtures/origin/a-registry.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

const MTIME = 1_577_836_800
/** Everything below the root that belongs to the image: type, mode, owner, size, links, name, target; folders' sizes are the format's. */
const LISTING = [
  '/usr/bin/find',
  '/',
  '-xdev',
  '-path',
  '/etc/hosts',
  '-o',
  '-path',
  '/etc/hostname',
  '-o',
  '-path',
  '/etc/resolv.conf',
  '-o',
  '(',
  '-type',
  'd',
  '-printf',
  '%y %m %U %G %p\\n',
  '-o',
  '-printf',
  '%y %m %U %G %s %n %T@ %p %l\\n',
  ')',
]

function at(entries: readonly TarEntry[]): TarEntry[] {
  return entries.map((entry) => ({ mtime: MTIME, ...entry }))
}

/** An image whose layers use what layers can: whiteouts, an opaque folder, links, special modes, xattrs, odd names. */
async function aFullImage(): Promise<Image> {
  const lower = at([
    { name: 'data/', mode: 0o755 },
    { name: 'data/kept', body: 'kept', mode: 0o640, uid: 12, gid: 34 },
    { name: 'data/gone', body: 'gone' },
    { name: 'opaque/', mode: 0o700 },
    { name: 'opaque/hidden', body: 'hidden' },
    { name: 'data/setuid', body: 'x', mode: 0o4755 },
    { name: 'data/sparse', sparse: { style: 'pax-1.0', bytes: 9 * 1024 ** 3, chunks: [{ at: 4096, body: 'far' }] } },
    { name: `data/${'n'.repeat(255)}`, body: 'long' },
    { name: Buffer.from([...Buffer.from('data/'), 0xff, 0xfe]), body: 'not utf-8' },
  ])
  const upper = at([
    { name: 'data/', mode: 0o755 },
    { name: 'data/.wh.gone' },
    { name: 'opaque/', mode: 0o711 },
    { name: 'opaque/.wh..wh..opq' },
    { name: 'opaque/new', body: 'new' },
    { name: 'data/hard', body: 'linked' },
    { name: 'data/link', type: 'link', link: 'data/hard' },
    { name: 'data/symbolic', type: 'symlink', link: '../data/kept' },
    { name: 'data/fifo', type: 'fifo', mode: 0o600 },
    { name: 'data/null', type: 'char', major: 1, minor: 3, mode: 0o666 },
    { name: 'data/attributed', body: 'x', xattrs: { 'user.note': 'here' } },
  ])
  return anImage({
    layers: [
      { compression: 'gzip', entries: await hostPrograms(['/usr/bin/find', '/bin/busybox']) },
      { compression: 'zstd', entries: lower },
      { compression: 'none', entries: upper },
    ],
    run: { Cmd: ['/bin/busybox', 'true'], Env: ['PATH=/usr/bin:/bin'] },
  })
}

/** A registry with the image, and an agent for each layer format. */
async function aStand(): Promise<
  { registry: Registry; swarm: Swarm; reference: string; image: Image } & AsyncDisposable
> {
  const registry = await aRegistry()
  const image = await aFullImage()
  await pushImage(registry, 'full', 'one', image)
  const swarm = await aSwarm({ peers: 0 })
  await swarm.start(0, { engine: true, snapshotter: 'erofs' })
  await swarm.start(1, { engine: true, snapshotter: 'directory' })
  return {
    registry,
    swarm,
    image,
    reference: `${registry.host}/full:one`,
    [Symbol.asyncDispose]: async () => {
      await swarm[Symbol.asyncDispose]()
      await registry[Symbol.asyncDispose]()
    },
  }
}

describe('an image from a registry, through the swarm, to containers', function () {
  this.timeout(120_000)

  it('is the same under both layer formats and both runtimes, and each blob is read once', async function () {
    onStage(this, { programs: ['runc', 'crun', 'conmon', 'docker-registry'] })
    await using stand = await aStand()
    const { registry, swarm, reference, image } = stand
    const sockets = [0, 1].map((number) => join(swarm.directory, `agent-${number}.sock`))
    const pulls = await Promise.all(
      sockets.map((socket) => runDarner(['pull', '--plain-http', reference, '--json', '--socket', socket])),
    )
    for (const pull of pulls) {
      assert.equal(pull.code, 0, pull.stderr)
      assert.equal((JSON.parse(pull.stdout) as { digest: string }).digest, image.manifest.digest)
    }
    for (const { digest } of [...image.layers, image.config]) assert.equal(await registry.blobGets(digest), 1, digest)
    const listings: string[] = []
    for (const socket of sockets) {
      for (const runtime of ['crun', 'runc']) {
        const run = await runDarner([
          'run',
          '--rm',
          '--runtime',
          runtime,
          '--network',
          'none',
          '--socket',
          socket,
          reference,
          ...LISTING,
        ])
        assert.equal(run.code, 0, run.stderr)
        listings.push(run.stdout.split('\n').sort().join('\n'))
      }
    }
    const [first = '', ...others] = listings
    for (const other of others) assert.equal(other, first)
    assert.match(first, /^f 640 12 34 4 1 \S+ \/data\/kept $/m)
    assert.match(first, /^f 644 0 0 6 2 \S+ \/data\/link $/m)
    assert.match(first, /^f 4755 0 0 1 1 \S+ \/data\/setuid $/m)
    assert.match(first, /^f \d+ 0 0 9663676416 1 \S+ \/data\/sparse $/m)
    assert.match(first, /^d 711 0 0 \/opaque$/m)
    assert.doesNotMatch(first, /\/data\/gone|\/opaque\/hidden|\.wh\./)
  })

  it('passes exit codes through, and says which image is not there', async function () {
    onStage(this, { programs: ['crun', 'conmon', 'docker-registry'] })
    await using stand = await aStand()
    const socket = join(stand.swarm.directory, 'agent-0.sock')
    const args = ['run', '--rm', '--plain-http', '--network', 'none', '--socket', socket]
    const run = await runDarner([...args, stand.reference, '/bin/busybox', 'sh', '-c', 'exit 42'])
    assert.equal(run.code, 42, run.stderr)
    const missing = await runDarner([...args, `${stand.registry.host}/nothing:here`, 'true'])
    assert.equal(missing.code, 125)
    assert.match(missing.stderr, /^darner: [^\n]*nothing[^\n]*404[^\n]*$/m)
  })
})
