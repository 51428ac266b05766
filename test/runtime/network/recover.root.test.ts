// deadline: 400 s
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { NETWORK_FAULT_POINTS } from '../../../runtime/network/sandboxes.ts'
import { NetworkClient } from '../../../src/cli/network-client.ts'
import { anEngine } from '../../fixtures/engine/an-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { hostNetwork } from '../../fixtures/host/host-network.ts'

const run = promisify(execFile)
const never = new AbortController().signal
const PUBLISH = [{ containerPort: 80, hostPort: 18_090, protocol: 'tcp' as const }]
const SERVE = ['busybox', 'nc', '-ll', '-p', '80', '-e', '/bin/hostname']

async function askHost(port: number): Promise<string> {
  const script = `i=0; while [ $i -lt 100 ]; do i=$((i+1)); a=$(busybox nc -w 2 127.0.0.1 ${port} </dev/null 2>/dev/null) && [ -n "$a" ] && echo $a && exit 0; usleep 100000; done; exit 1`
  return (await run('busybox', ['sh', '-c', script])).stdout.trim()
}

describe('networks after kill -9 of the engine', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('a running container keeps address, names and ports; flushed rules come back', async () => {
    await using dir = await aDir()
    const before = await hostNetwork(dir.path)
    {
      await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun', networks: { ready: 2 } })
      const request = { image: 'busybox', name: 'server', command: SERVE, network: 'bridge', publish: PUBLISH }
      const { id } = await first.client.create(request, { signal: never })
      await first.client.start(id, { signal: never })
      const was = await first.client.inspect(id, { signal: never })
      await first.kill()
      assert.equal(await askHost(18_090), id.slice(0, 12), 'served while no engine runs')
      await run('iptables', ['-t', 'nat', '-F'])
      await run('iptables', ['-t', 'filter', '-F'])
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun', networks: {} })
      const { containers, networks } = engine.runtime
      assert.deepEqual(containers.inspect(id).networking, was.networking)
      assert.equal(await askHost(18_090), id.slice(0, 12), 'new connections are served')
      assert.deepEqual(Object.keys((await networks?.inspect('bridge'))?.containers ?? {}), [id])
    }
    assert.deepEqual(await hostNetwork(dir.path), { ...before, namespaces: [], leases: [] })
  })

  for (const fault of NETWORK_FAULT_POINTS) {
    it(`at ${fault}: one restart leaves nothing behind, and the port is free again`, async () => {
      await using dir = await aDir()
      const before = await hostNetwork(dir.path)
      {
        await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun', fault, networks: {} })
        const request = { image: 'busybox', name: 'one', command: ['true'], network: 'bridge', publish: PUBLISH }
        const work = async () => {
          const { id } = await first.client.create(request, { signal: never })
          await first.client.start(id, { signal: never })
          await first.client.wait(id, { signal: never })
          await first.client.remove(id, { signal: never })
        }
        await work().catch(() => {}) // it dies in the middle
        await first.ended
        await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun', networks: {} })
        const { containers } = engine.runtime
        assert.deepEqual(await readdir(join(dir.path, 'run/netns')), [])
        for (const { id } of containers.list({ all: true })) {
          await containers.startContainer(id, { signal: never })
          assert.equal((await containers.wait(id, { signal: never })).exitCode, 0)
        }
      }
      assert.deepEqual(await hostNetwork(dir.path), { ...before, namespaces: [], leases: [] })
    })
  }

  for (const fault of ['network:removing', 'network:lowered']) {
    it(`at ${fault}: the restart finishes the removal`, async () => {
      await using dir = await aDir()
      const before = await hostNetwork(dir.path)
      {
        await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun', fault, networks: {} })
        const client = new NetworkClient({ socket: first.socket })
        await client.create({ name: 'shop', ipv6: true }, { signal: never })
        const request = { image: 'busybox', command: ['true'], network: 'shop', publish: PUBLISH }
        const { id } = await first.client.create(request, { signal: never })
        await first.client.start(id, { signal: never })
        await first.client.wait(id, { signal: never })
        await first.client.remove(id, { signal: never })
        await client.remove('shop', { signal: never }).catch(() => {}) // it dies in the middle
        await first.ended
        await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun', networks: {} })
        const names = (await engine.runtime.networks?.list())?.map((one) => one.name)
        assert.deepEqual(names, ['bridge', 'host', 'none'])
        assert.deepEqual((await hostNetwork(dir.path)).links, before.links)
      }
      assert.deepEqual(await hostNetwork(dir.path), { ...before, namespaces: [], leases: [] })
    })
  }
})
