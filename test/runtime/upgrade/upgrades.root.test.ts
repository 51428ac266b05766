import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { aLayeredEngine, busyboxEntries, type LayeredEngine } from '../../fixtures/engine/a-layered-engine.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { hostNetwork } from '../../fixtures/host/host-network.ts'
import { needs } from '../../fixtures/host/needs.ts'
import type { TarEntry } from '../../fixtures/images/a-tar.ts'

const never = new AbortController().signal
/** How long one without a health check has to run. */
const QUICK = { healthTimeoutMs: 200 }
const MIB = 1 << 20
const MTIME = 1_577_836_800
const OLD = 'registry.example/app:1'
const NEW = 'registry.example/app:2'
/** Serves what its root says of its version, until TERM. */
const SERVE = ['/bin/sh', '-c', 'trap "exit 0" TERM; while :; do nc -l -p 80 -e /bin/cat /version & wait $!; done']

const file = (name: string, body: string): TarEntry => ({ name, body, mode: 0o644, mtime: MTIME })
const folder = (name: string): TarEntry => ({ name: `${name}/`, mode: 0o755, mtime: MTIME })

async function addApp(
  engine: LayeredEngine,
  options: { readonly newRun?: Record<string, unknown> } = {},
): Promise<void> {
  const base = await busyboxEntries()
  const old = [...base, file('version', '1\n'), file('etc/app.conf', 'port=1\n'), file('etc/gone.conf', 'old\n')]
  await engine.addImage(OLD, old, {
    Cmd: SERVE,
    Env: ['PATH=/bin', 'APP=1', 'LEVEL=low'],
    Labels: { version: '1' },
    Volumes: { '/data': {} },
  })
  const next = [
    ...base,
    file('version', '2\n'),
    file('etc/app.conf', 'port=2\n'),
    folder('opt'),
    file('opt/new', 'new\n'),
  ]
  await engine.addImage(NEW, next, {
    Cmd: SERVE,
    Env: ['PATH=/bin', 'APP=2', 'LEVEL=low', 'EXTRA=yes'],
    Labels: { version: '2' },
    Volumes: { '/data': {}, '/cache': {} },
    ...options.newRun,
  })
}

async function started(engine: LayeredEngine, more: Partial<CreateRequest> = {}): Promise<string> {
  const { containers } = engine.runtime
  const { id } = await containers.create({ image: OLD, name: 'app', ...more })
  await containers.startContainer(id, { signal: never })
  return id
}

async function shell(engine: LayeredEngine, id: string, script: string): Promise<string> {
  const { exitCode, output } = await engine.exec(id, ['/bin/sh', '-c', script])
  assert.equal(exitCode, 0, `${script}: ${output}`)
  return output.trim()
}

describe('upgrade in place', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('keeps identity, addresses, ports, volumes and what the user set; takes what only the image set from the new one', async () => {
    await using dir = await aDir()
    const before = await hostNetwork(dir.path)
    {
      await using engine = await aLayeredEngine({ dir: dir.path })
      const { containers, upgrades } = engine.runtime
      await addApp(engine)
      const asked = {
        env: ['LEVEL=high'],
        labels: { team: 'a' },
        network: 'bridge',
        publish: [{ containerPort: 80, hostPort: 18_191, protocol: 'tcp' as const }],
        mounts: [{ type: 'volume' as const, source: 'named', target: '/named' }],
      }
      const id = await started(engine, asked)
      await shell(engine, id, 'echo kept > /data/file; echo kept > /named/file; echo mine > /srv-file')
      const was = containers.inspect(id)
      const { done, previous } = await upgrades.upgrade('app', { image: NEW, ...QUICK })
      const is = containers.inspect(id)
      assert.equal(is.status, 'running')
      assert.deepEqual([is.id, is.name, is.image], [was.id, was.name, NEW])
      assert.deepEqual(is.networking, was.networking, 'namespace, addresses, MAC and ports')
      assert.deepEqual(is.request.labels, { team: 'a' })
      assert.equal(
        await shell(engine, id, 'cat /version /data/file /named/file /srv-file /opt/new; echo $APP $LEVEL $EXTRA'),
        '2\nkept\nkept\nmine\nnew\n2 high yes',
      )
      const targets = (is.request.mounts ?? []).map((one) => one.target)
      assert.deepEqual(targets.sort(), ['/cache', '/data', '/named'])
      assert.equal(done?.outcome, 'done')
      assert.ok(done.downMs !== undefined && done.downMs > 0)
      assert.equal(previous?.image, OLD)
      assert.deepEqual(is.history, [done])
      const events: string[] = []
      for await (const one of engine.runtime.events.read({ sinceMs: 0, untilMs: Date.now(), signal: never }))
        events.push(one.action)
      assert.ok(events.includes('upgrade'), events.join())
    }
    assert.deepEqual(await hostNetwork(dir.path), { ...before, namespaces: [], leases: [] })
  })

  it('drops what the new image owns, keeps the rest, and lists both beforehand without doing anything', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades } = engine.runtime
    await addApp(engine)
    const id = await started(engine, { network: 'none' })
    const changes = [
      'echo port=9 > /etc/app.conf', // changed here, and in the new image
      'echo mine > /etc/gone.conf', // changed here, gone from the new image
      'rm /bin/head', // deleted here, there again in the new image
      'mkdir /opt; echo x > /opt/mine; mkdir -p /var/lib/app; echo db > /var/lib/app/db; ln /var/lib/app/db /var/lib/app/link',
      'chmod 700 /var/lib/app; ln -s db /var/lib/app/sym; mkfifo /var/lib/app/fifo',
    ]
    await shell(engine, id, changes.join('; '))
    const was = containers.inspect(id)
    const { plan } = await upgrades.upgrade(id, { image: NEW, dryRun: true })
    const told = Object.fromEntries((plan?.upper ?? []).map((one) => [one.path, one.verdict]))
    assert.deepEqual(told, {
      '/bin/head': 'return',
      '/etc/app.conf': 'drop',
      '/etc/gone.conf': 'keep',
      '/opt/mine': 'keep',
      '/var': 'keep',
      '/var/lib': 'keep',
      '/var/lib/app': 'keep',
      '/var/lib/app/db': 'keep',
      '/var/lib/app/fifo': 'keep',
      '/var/lib/app/link': 'keep',
      '/var/lib/app/sym': 'keep',
    })
    assert.deepEqual(containers.inspect(id), was, 'nothing was done')
    await upgrades.upgrade(id, { image: NEW, ...QUICK })
    assert.equal(
      await shell(
        engine,
        id,
        'cat /etc/app.conf /etc/gone.conf /opt/mine /opt/new /var/lib/app/sym; ls /bin/head; stat -c "%a %h" /var/lib/app /var/lib/app/db; test -p /var/lib/app/fifo',
      ),
      'port=2\nmine\nx\nnew\ndb\n/bin/head\n700 2\n600 2'.replace('600 2', '644 2'),
    )
  })

  it("keeps the whole layer over the new image's files, or nothing, or what is named", async () => {
    for (const { upper, merge, conf, mine, head } of [
      { upper: 'keep', merge: undefined, conf: 'port=9', mine: 'x', head: 'gone' },
      { upper: 'fresh', merge: undefined, conf: 'port=2', mine: 'gone', head: '/bin/head' },
      { upper: undefined, merge: ['/etc/app.conf'], conf: 'port=9', mine: 'x', head: '/bin/head' },
    ] as const) {
      await using dir = await aDir()
      await using engine = await aLayeredEngine({ dir: dir.path })
      await addApp(engine)
      const id = await started(engine, { network: 'none' })
      await shell(engine, id, 'echo port=9 > /etc/app.conf; rm /bin/head; echo x > /mine')
      await engine.runtime.upgrades.upgrade(id, {
        image: NEW,
        ...QUICK,
        ...(upper ? { upper } : {}),
        ...(merge ? { merge: [...merge] } : {}),
      })
      const look =
        'cat /etc/app.conf; cat /mine 2>/dev/null || echo gone; ls /bin/head 2>/dev/null || echo gone; cat /version'
      assert.equal(await shell(engine, id, look), `${conf}\n${mine}\n${head}\n2`, `${upper} ${merge}`)
    }
  })

  it('a new container that ends, or is not healthy in time, is undone: the old one runs again, its files and address as they were', async () => {
    for (const { newRun, code, healthTimeoutMs } of [
      { newRun: { Cmd: ['/bin/false'] }, code: 'COMMAND_FAILED', healthTimeoutMs: 60_000 },
      { newRun: { Cmd: ['/nowhere'] }, code: 'RUNTIME_FAILED', healthTimeoutMs: 60_000 },
      { newRun: { Healthcheck: { Test: ['CMD', '/bin/false'] } }, code: 'TIMED_OUT', healthTimeoutMs: 500 },
    ] as const) {
      await using dir = await aDir()
      await using engine = await aLayeredEngine({ dir: dir.path })
      const { containers, upgrades } = engine.runtime
      await addApp(engine, { newRun })
      const id = await started(engine, { network: 'bridge' })
      await shell(engine, id, 'echo port=9 > /etc/app.conf; rm /bin/head')
      const was = containers.inspect(id)
      const upgrading = upgrades.upgrade(id, { image: NEW, healthTimeoutMs })
      await failsWith(code, upgrading, /the container is as it was/)
      const is = containers.inspect(id)
      assert.deepEqual([is.status, is.image, is.previous], ['running', OLD, undefined])
      assert.deepEqual(is.networking, was.networking)
      assert.equal(is.history?.[0]?.outcome, 'undone')
      assert.equal(
        await shell(engine, id, 'cat /version /etc/app.conf; ls /bin/head 2>/dev/null || echo gone'),
        '1\nport=9\ngone',
      )
      assert.deepEqual(await readdir(join(dir.path, 'layers/directory/rootfs')), [id])
    }
  })

  it('a rollback brings image and writable layer of before back, and can be taken back itself', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades } = engine.runtime
    await addApp(engine)
    const id = await started(engine, { network: 'bridge' })
    await shell(engine, id, 'echo port=9 > /etc/app.conf; echo 1 > /data/file')
    const { networking } = containers.inspect(id)
    await upgrades.upgrade(id, { image: NEW, ...QUICK })
    await shell(engine, id, 'echo later > /later; echo 2 > /data/file')
    const inUse = containers.inUse()
    assert.equal(inUse.imageIds.size, 2, 'the former image is in use as long as it may come back')
    assert.equal(inUse.layers.size, 2)
    await upgrades.rollback(id, QUICK)
    const look = 'cat /version /etc/app.conf /data/file; cat /later 2>/dev/null || echo gone; echo $APP'
    assert.equal(await shell(engine, id, look), '1\nport=9\n2\ngone\n1')
    assert.deepEqual(containers.inspect(id).networking, networking)
    await upgrades.rollback(id, QUICK)
    assert.equal(await shell(engine, id, look), '2\nport=2\n2\nlater\n2')
    assert.deepEqual(
      containers.inspect(id).history?.map((one) => one.kind),
      ['upgrade', 'rollback', 'rollback'],
    )
  })

  it('one that does not run is upgraded and stays so; without a former generation there is no rollback', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades } = engine.runtime
    await addApp(engine)
    const { id } = await containers.create({ image: OLD, network: 'none' })
    await failsWith('STATE_INVALID', upgrades.rollback(id, {}))
    await upgrades.upgrade(id, { image: NEW, ...QUICK })
    assert.deepEqual([containers.inspect(id).status, containers.inspect(id).image], ['created', NEW])
    assert.deepEqual([...(await engine.snapshotter.recover(new Set([id, `${id}.1`])))], [], 'nothing is left mounted')
    await containers.startContainer(id, { signal: never })
    assert.equal(await shell(engine, id, 'cat /version'), '2')
  })

  it('what an image says by a label holds for that image only', async function () {
    needs(this, { programs: ['tini-static'] })
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path, options: { richImages: true } })
    const { containers, upgrades } = engine.runtime
    await addApp(engine, { newRun: { Labels: { 'darner.rich': 'dumb-init' } } })
    const id = await started(engine, { network: 'none' })
    const first = async () => [
      containers.inspect(id).request.rich,
      (await shell(engine, id, 'cat /proc/1/comm')).trim(),
    ]
    assert.deepEqual(await first(), [undefined, 'sh'])
    await upgrades.upgrade(id, { image: NEW, ...QUICK })
    assert.deepEqual(await first(), ['dumb-init', 'darner-init'])
    await upgrades.rollback(id, QUICK)
    assert.deepEqual(await first(), [undefined, 'sh'])
  })

  it('the former generation is deleted when its time is over, and with the container', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades } = engine.runtime
    await addApp(engine)
    const id = await started(engine, { network: 'none' })
    const rootfs = () => readdir(join(dir.path, 'layers/directory/rootfs'))
    await upgrades.upgrade(id, { image: NEW, keepMs: 0, ...QUICK })
    await upgrades.expire()
    assert.equal(containers.inspect(id).previous, undefined)
    assert.deepEqual(await rootfs(), [`${id}.1`])
    await upgrades.upgrade(id, { image: OLD, ...QUICK })
    assert.deepEqual(await rootfs(), [`${id}.1`, `${id}.2`])
    await containers.remove(id, { force: true, volumes: true, signal: never })
    assert.deepEqual(await rootfs(), [])
    assert.deepEqual(await containers.volumes.list(), [])
  })

  it('the new writable layer has the quota of the old one; without room in the pool for both nothing is stopped', async function () {
    needs(this, { programs: ['mkfs.ext4'] })
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades, quotas } = engine.runtime
    await quotas.initPool(45 * MIB, { signal: never })
    await addApp(engine)
    const id = await started(engine, { network: 'none', diskQuota: { bytes: 16 * MIB } })
    await shell(engine, id, 'echo data > /file')
    const size = () => shell(engine, id, 'df -k / | { read -r head; read -r _ total _; echo $total; }')
    const before = await size()
    await upgrades.upgrade(id, { image: NEW, keepMs: 0, ...QUICK })
    assert.deepEqual([await shell(engine, id, 'cat /file /version'), await size()], ['data\n2', before])
    assert.match(await shell(engine, id, 'dd if=/dev/zero of=/fill bs=64k count=400 2>&1; rm /fill'), /No space left/)
    const { pid } = containers.inspect(id)
    await failsWith('LIMIT_EXCEEDED', upgrades.upgrade(id, { image: OLD, ...QUICK }), /the container is as it was/)
    assert.deepEqual([containers.inspect(id).pid, containers.inspect(id).status], [pid, 'running'])
    await upgrades.expire()
    await upgrades.upgrade(id, { image: OLD, ...QUICK })
    assert.equal(await shell(engine, id, 'cat /file /version'), 'data\n1')
  })

  it('--rm does not remove it between the two, and a restart policy starts neither of them meanwhile', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades } = engine.runtime
    await addApp(engine)
    const removing = await started(engine, { network: 'none', autoRemove: true })
    await upgrades.upgrade(removing, { image: NEW, ...QUICK })
    assert.equal(await shell(engine, removing, 'cat /version'), '2')
    const again = await started(engine, { network: 'none', name: 'again', restart: { name: 'always' } })
    await upgrades.upgrade(again, { image: NEW, ...QUICK })
    assert.equal(containers.inspect(again).restartCount, 0)
  })

  it('nobody else changes a container while it is upgraded', async () => {
    await using dir = await aDir()
    await using engine = await aLayeredEngine({ dir: dir.path })
    const { containers, upgrades } = engine.runtime
    await addApp(engine)
    const id = await started(engine, { network: 'none' })
    const upgrading = upgrades.upgrade(id, { image: NEW })
    while (!containers.inspect(id).upgrade) await new Promise(setImmediate)
    const refused = (work: Promise<unknown>) => failsWith('STATE_INVALID', work, /upgrade is under way/)
    await refused(containers.stop(id, { signal: never }))
    await refused(containers.remove(id, { force: true, signal: never }))
    await refused(containers.update(id, { resources: {} }, { signal: never }))
    await refused(upgrades.upgrade(id, { image: NEW }))
    assert.equal(containers.inspect(id).upgrade?.kind, 'upgrade')
    await upgrading
    assert.equal(containers.inspect(id).upgrade, undefined)
  })
})
