// long: kills an engine at each step of a container's life, over real layers, networks and volumes
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { FAULT_POINTS, STOP_FAULT_POINTS } from '../../../runtime/containers/launch.ts'
import { NETWORK_FAULT_POINTS } from '../../../runtime/network/sandboxes.ts'
import { mountsBelow } from '../../../runtime/snapshots/mounts.ts'
import { VOLUME_FAULT_POINTS } from '../../../runtime/volumes/volumes.ts'
import { aLayeredEngine, busyboxEntries } from '../../fixtures/engine/a-layered-engine.ts'
import { anEngineProcess, type EngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { hostNetwork } from '../../fixtures/host/host-network.ts'
import { processesOf } from '../../fixtures/host/processes-of.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal
const IMAGE = 'registry.example/app:1'
const REQUEST = {
  image: IMAGE,
  name: 'one',
  network: 'bridge',
  publish: [{ containerPort: 80, hostPort: 18_193, protocol: 'tcp' as const }],
  mounts: [
    { type: 'volume' as const, target: '/data' },
    { type: 'volume' as const, source: 'kept', target: '/kept' },
  ],
}
const SERVE = ['/bin/sh', '-c', 'trap "exit 0" TERM; while :; do sleep 1000 & wait $!; done']

/** What a container could leave in an engine's folder and on the host. */
async function left(dir: string): Promise<Record<string, unknown>> {
  const names = async (path: string) =>
    (await readdir(join(dir, path)).catch(() => [])).filter((name) => !name.startsWith('.'))
  return {
    ...(await hostNetwork(dir)),
    mounts: (await mountsBelow(dir)).map((one) => one.target),
    bundles: (await names('engine/containers')).filter((name) => /^[0-9a-f]{64}$/.test(name)),
    runtime: await names('run/crun'),
    layers: await names('layers/directory/rootfs'),
    volumes: await readdir(join(dir, 'engine/volumes')).catch(() => []),
    processes: processesOf(dir),
  }
}

/** As `docker rm -v`. */
async function removeWithVolumes({ socket }: EngineProcess, id: string): Promise<void> {
  const asked = request({ socketPath: socket, method: 'DELETE', path: `/docker/containers/${id}?v=1` })
  asked.end()
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  answer.resume()
  assert.equal(answer.statusCode, 204)
}

describe('kill -9 of the engine with layers, a network, a port and a volume', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  for (const fault of [...FAULT_POINTS, ...STOP_FAULT_POINTS, ...VOLUME_FAULT_POINTS, ...NETWORK_FAULT_POINTS]) {
    it(`at ${fault}: one restart leaves nothing behind and loses no container and no volume that has a name`, async () => {
      await using dir = await aDir()
      const first = await aLayeredEngine({ dir: dir.path })
      await first.addImage(IMAGE, await busyboxEntries(), { Cmd: SERVE, Env: ['PATH=/bin'] })
      await first.leave()
      const before = await left(dir.path)
      {
        await using second = await anEngineProcess({ dir: dir.path, runtime: 'crun', fault, kind: 'layered' })
        const work = async () => {
          const { id } = await second.client.create(REQUEST, { signal: never })
          await second.client.start(id, { signal: never })
          await second.client.stop(id, { signal: never })
          await removeWithVolumes(second, id)
        }
        await work().catch(() => {}) // it dies in the middle
        await second.ended
        const engine = await aLayeredEngine({ dir: dir.path })
        try {
          const { containers } = engine.runtime
          const names = containers.list({ all: true }).map((one) => one.name)
          assert.deepEqual(names, /^(remove|volume:gone)/.test(fault) ? [] : ['one'])
          const early = ['create:recorded', 'volume:folder', 'volume:recorded']
          if (!early.includes(fault)) await engine.runtime.containers.volumes.get('kept')
          if (names.length > 0) {
            await containers.stop('one', { signal: never })
            await containers.startContainer('one', { signal: never }) // it is good for another run
            const { id } = containers.inspect('one')
            assert.equal(
              (await engine.exec(id, ['/bin/sh', '-c', 'echo on > /data/file; cat /data/file'])).output,
              'on\n',
            )
            await containers.stop('one', { signal: never })
            await containers.remove('one', { force: false, volumes: true, signal: never })
          }
          await engine.runtime.networks?.idle()
          await until(() => processesOf(dir.path).length === 0)
        } finally {
          await engine[Symbol.asyncDispose]()
        }
      }
      assert.deepEqual(await left(dir.path), { ...before, namespaces: [], leases: [], volumes: ['kept'] })
    })
  }
})
