import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import type { PeerStatus } from '../../src/api/peer-status.ts'
import { AgentClient } from '../../src/cli/client.ts'
import { digestOf } from '../../src/core/digest.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { anImage, anIndex, anOuterIndex, pushImage, pushIndex } from '../fixtures/images/an-image.ts'
import { aRegistry, REGISTRY_USER } from '../fixtures/origin/a-registry.ts'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'
import { until } from '../fixtures/until.ts'

const never = new AbortController().signal

describe('darner preheat', function () {
  this.timeout(120_000)

  it('fills the hosts that it names from one read of each blob, with any auth', async () => {
    await using dir = await aDir()
    await using supernode = await aSupernodeProcess(dir.path)
    const start = (name: string, zone: string) => anAgentProcess(dir.path, name, supernode.line, ['--zone', zone])
    await using one = await start('one', 'a')
    await using two = await start('two', 'a')
    await using other = await start('other', 'b')
    for (const [seed, auth] of (['none', 'basic'] as const).entries()) {
      await using registry = await aRegistry(auth === 'none' ? {} : { auth })
      const layers = [{ compression: 'none' as const, bytes: 2_000_000 }, { compression: 'gzip' as const }]
      const image = anImage({ seed: seed + 10, layers })
      await pushImage(registry, 'team/app', 'v1', image)
      const config = join(dir.path, `docker-${auth}`)
      await mkdir(config)
      const basic = Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64')
      await writeFile(join(config, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth: basic } } }))
      const preheat = (...args: string[]) =>
        runDarner(['preheat', `${registry.host}/team/app:v1`, '--plain-http', '--socket', one.socket, ...args], {
          DOCKER_CONFIG: config,
        })
      const done = await preheat('--to', 'zone=a', '--deadline', '60s', '--json')
      assert.equal(done.code, 0, done.stderr + other.log())
      const state = JSON.parse(done.stdout) as { ready: number; hosts: number; have: number; bytes: number }
      assert.deepEqual([state.ready, state.hosts], [2, 2])
      assert.equal(state.have, state.bytes)
      const held = async (socket: string) => {
        const { tasks } = await new AgentClient({ socket }).json<PeerStatus>('GET', '/v1/peer', { signal: never })
        return tasks.filter(({ complete }) => complete).map(({ task }) => task)
      }
      for (const { digest } of [...image.layers, image.config]) {
        // ready is told at the digest, complete once it is safe on the disk
        for (const { socket } of [one, two]) await until(async () => (await held(socket)).includes(digest))
        assert.equal(await registry.blobGets(digest), 1)
      }
      assert.deepEqual(await held(other.socket), [])
      const nowhere = await preheat('--to', 'zone=c')
      assert.equal(nowhere.code, 1)
      assert.match(nowhere.stderr, /no such host/)
    }
  })

  it('keeps to its rate, ends with 124 at its deadline, and leaves neither behind', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const layers = [{ compression: 'none' as const, bytes: 3_000_000 }]
    await pushImage(registry, 'team/app', 'v1', anImage({ layers }))
    await using supernode = await aSupernodeProcess(dir.path)
    await using one = await anAgentProcess(dir.path, 'one', supernode.line, ['--zone', 'a'])
    await using two = await anAgentProcess(dir.path, 'two', supernode.line, ['--zone', 'b'])
    const preheat = (...args: string[]) =>
      runDarner(['preheat', `${registry.host}/team/app:v1`, '--plain-http', '--socket', one.socket, ...args])
    // 3 MB at this rate take minutes
    const late = await preheat('--to', 'zone=b', '--rate', '20K', '--deadline', '2s', '--json')
    assert.equal(late.code, 124, late.stderr)
    const { state, hosts, ready } = JSON.parse(late.stdout) as { state: string; hosts: number; ready: number }
    assert.deepEqual([state, hosts, ready], ['late', 1, 0])
    assert.match(late.stderr, /: not done by the deadline\n$/)
    const rest = await preheat('--to', 'all', '--rate', '500MiB/s')
    assert.equal(rest.code, 0, rest.stderr + two.log())
    assert.match(rest.stdout, /^2 of 2 hosts hold /)
    for (const [args, text] of [
      [['--rate', '5'], /--rate 5: expected a rate of at least 1K/],
      [['--to', 'zone='], /zone=/],
      [['--deadline', 'soon'], /deadline/],
    ] as const) {
      const { code, stderr } = await preheat(...args)
      assert.equal(code, 2, stderr)
      assert.match(stderr, text)
    }
  })

  it('brings one platform of an index when asked to, and no layer that lies elsewhere', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const platform = (architecture: string) => ({ os: 'linux', architecture })
    const away = ['http://127.0.0.1:9/layer']
    const wanted = anImage({ platform: platform('amd64'), layers: [{}, { bytes: 70_000, urls: away }] })
    const other = anImage({ seed: 2, platform: platform('arm64') })
    await pushIndex(registry, 'team/app', 'v1', [wanted, other])
    await using supernode = await aSupernodeProcess(dir.path)
    await using one = await anAgentProcess(dir.path, 'one', supernode.line)
    const args = ['--platform', 'linux/amd64', '--plain-http', '--socket', one.socket]
    const { code, stderr } = await runDarner(['preheat', `${registry.host}/team/app:v1`, ...args])
    assert.equal(code, 0, stderr)
    for (const { digest } of other.layers) assert.equal(await registry.blobGets(digest), 0)
    assert.equal(await registry.blobGets(wanted.layers[0]?.digest ?? digestOf('')), 1)
    // the same index within another
    const outer = anOuterIndex([anIndex([wanted, other])])
    await registry.putManifest('team/app', 'nested', outer.mediaType, outer.body)
    const still = await runDarner(['preheat', `${registry.host}/team/app:nested`, ...args])
    assert.equal(still.code, 0, still.stderr)
    for (const { digest } of other.layers) assert.equal(await registry.blobGets(digest), 0)
    const all = await runDarner(['preheat', `${registry.host}/team/app:nested`, ...args.slice(2), '--json'])
    assert.equal(all.code, 0, all.stderr)
    for (const layer of other.layers) assert.equal(await registry.blobGets(layer.digest), 1)
  })

  it('brings one image that is no index only for the platform that its config names', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const image = anImage({ platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } })
    await pushImage(registry, 'team/app', 'v1', image)
    const unnamed = anOuterIndex([image.manifest])
    await registry.putManifest('team/app', 'unnamed', unnamed.mediaType, unnamed.body)
    await using supernode = await aSupernodeProcess(dir.path)
    await using one = await anAgentProcess(dir.path, 'one', supernode.line)
    const preheat = (tag: string, platform: string) =>
      runDarner([
        ...['preheat', `${registry.host}/team/app:${tag}`, '--platform', platform],
        ...['--plain-http', '--socket', one.socket],
      ])
    for (const tag of ['v1', 'unnamed']) {
      const { code, stderr } = await preheat(tag, 'linux/amd64')
      assert.equal(code, 1)
      assert.match(stderr, /has no image for linux\/amd64: it is one for linux\/arm64; leave --platform out/)
    }
    for (const { digest } of image.layers) assert.equal(await registry.blobGets(digest), 0)
    const right = await preheat('v1', 'arm64')
    assert.equal(right.code, 0, right.stderr)
    for (const { digest } of image.layers) assert.equal(await registry.blobGets(digest), 1)
  })
})
