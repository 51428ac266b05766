// deadline: 400 s
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { mountsBelow } from '../../../runtime/snapshots/mounts.ts'
import { UPGRADE_FAULT_POINTS } from '../../../runtime/upgrade/journal.ts'
import { AgentClient } from '../../../src/cli/client.ts'
import type { RollbackRequest, UpgradeRequest } from '../../../src/wire/upgrade-api.ts'
import { aDir } from '../../fixtures/a-dir.ts'
import { aLayeredEngine, busyboxEntries, type LayeredEngine } from '../../fixtures/a-layered-engine.ts'
import { onStage } from '../../fixtures/a-stage.ts'
import { anEngineProcess } from '../../fixtures/an-engine-process.ts'
import { hostNetwork } from '../../fixtures/host-network.ts'

const never = new AbortController().signal
const MTIME = 1_577_836_800
const OLD = 'registry.example/app:1'
const NEW = 'registry.example/app:2'
const BAD = 'registry.example/app:bad'
const PUBLISH = [{ containerPort: 80, hostPort: 18_192, protocol: 'tcp' as const }]
const SERVE = ['/bin/sh', '-c', 'trap "exit 0" TERM; while :; do sleep 1000 & wait $!; done']

async function addImages(engine: LayeredEngine): Promise<void> {
  const base = await busyboxEntries()
  const version = (body: string) => ({ name: 'version', body, mode: 0o644, mtime: MTIME })
  await engine.addImage(OLD, [...base, version('1\n')], { Cmd: SERVE, Env: ['PATH=/bin'] })
  await engine.addImage(NEW, [...base, version('2\n')], { Cmd: SERVE, Env: ['PATH=/bin'], Volumes: { '/cache': {} } })
  const unhealthy = { Healthcheck: { Test: ['CMD', '/bin/false'] } }
  await engine.addImage(BAD, [...base, version('3\n')], { Cmd: SERVE, Env: ['PATH=/bin'], ...unhealthy })
}

/** Argument lists of the processes that name `dir`. */
function processesOf(dir: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')]
      } catch {
        return [] // it ended while the list was read
      }
    })
    .filter((line) => line.includes(dir))
}

/** Looks again until it holds; the test's own timeout is the deadline. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10))
}

/**
 * A container with data and an address; then, in an engine that dies at `fault`, an upgrade or a rollback; then an engine that
 * finds what is left. `expected` is the version that has to run.
 */
async function killed(
  fault: string,
  expected: '1' | '2',
  ask:
    | { readonly verb: 'upgrade'; readonly body: UpgradeRequest }
    | { readonly verb: 'rollback'; readonly body: RollbackRequest },
): Promise<void> {
  await using dir = await aDir()
  const before = await hostNetwork(dir.path)
  {
    const first = await aLayeredEngine({ dir: dir.path })
    await addImages(first)
    const { containers } = first.runtime
    const { id } = await containers.create({ image: OLD, name: 'app', network: 'bridge', publish: PUBLISH })
    await containers.startContainer(id, { signal: never })
    await first.exec(id, ['/bin/sh', '-c', 'echo data > /data; rm /bin/head'])
    if (ask.verb === 'rollback') await first.runtime.upgrades.upgrade(id, { image: NEW, healthTimeoutMs: 100 })
    const was = containers.inspect(id)
    await first.leave()

    await using second = await anEngineProcess({
      dir: dir.path,
      runtime: 'crun',
      fault,
      script: 'layered-engine-process.ts',
    })
    const client = new AgentClient({ socket: second.socket })
    await client.json('POST', `/v1/containers/app/${ask.verb}`, { body: ask.body, signal: never }).catch(() => {}) // it dies in the middle
    await second.ended

    await using engine = await aLayeredEngine({ dir: dir.path })
    const { runtime } = engine
    await runtime.upgrades.idle()
    const list = runtime.containers.list({ all: true })
    assert.deepEqual(
      list.map((one) => [one.id, one.name, one.status, one.upgrade]),
      [[id, 'app', 'running', undefined]],
    )
    assert.deepEqual(list[0]?.networking, was.networking, 'address, MAC and ports')
    const look = 'cat /version /data; ls /bin/head 2>/dev/null || echo gone'
    const head = expected === '1' ? 'gone' : '/bin/head'
    assert.equal((await engine.exec(id, ['/bin/sh', '-c', look])).output.trim(), `${expected}\ndata\n${head}`)

    const { rootfsId = id, previous } = runtime.containers.entry(id).record
    const kept = [rootfsId, ...(previous ? [previous.generation.rootfsId] : [])].sort()
    assert.deepEqual((await readdir(join(dir.path, 'layers/directory/rootfs'))).sort(), kept)
    const mounted = (await mountsBelow(dir.path)).map((one) => one.target.slice(dir.path.length + 1)).sort()
    const [namespace] = await readdir(join(dir.path, 'run/netns'))
    assert.deepEqual(mounted, [`layers/directory/rootfs/${rootfsId}/root`, `run/netns/${namespace}`])
    await until(() => processesOf(dir.path).length === 1)
    assert.deepEqual(
      await readdir(join(dir.path, 'run/crun')).then((all) => all.filter((one) => !one.startsWith('.'))),
      [id],
    )
  }
  assert.deepEqual(await hostNetwork(dir.path), { ...before, namespaces: [], leases: [] })
  await until(() => processesOf(dir.path).length === 0)
}

describe('kill -9 of the agent in an upgrade', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  const notSwitched: readonly string[] = [
    'upgrade:recorded',
    'upgrade:copied',
    'upgrade:stopping',
    'upgrade:stopped',
    'upgrade:synced',
  ]
  for (const fault of UPGRADE_FAULT_POINTS) {
    const undone = fault.startsWith('undo:')
    const expected = undone || notSwitched.includes(fault) ? '1' : '2'
    const body = { image: undone ? BAD : NEW, healthTimeoutMs: 100 }
    it(`at ${fault}: ${expected === '1' ? 'the old one' : 'the new one'} runs, once, and nothing else is left`, () =>
      killed(fault, expected, { verb: 'upgrade', body }))
  }

  for (const [fault, expected] of [
    ['upgrade:stopped', '2'],
    ['upgrade:switched', '1'],
  ] as const) {
    it(`in a rollback, at ${fault}: the ${expected === '1' ? 'former' : 'present'} one runs`, () =>
      killed(fault, expected, { verb: 'rollback', body: { healthTimeoutMs: 100 } }))
  }

  for (const fault of ['start:recorded', 'start:created', 'start:started'] as const) {
    it(`at ${fault} of the new one: it runs after the restart`, () =>
      killed(fault, '2', { verb: 'upgrade', body: { image: NEW, healthTimeoutMs: 100 } }))
  }
})
