import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Admission } from '../../../runtime/containers/admission.ts'
import type { RunExtension } from '../../../runtime/rich/extension.ts'
import { DEFAULT_SECCOMP } from '../../../runtime/spec/seccomp-default.ts'
import type { HostFacts } from '../../../runtime/spec/spec.ts'
import { Volumes } from '../../../runtime/volumes/volumes.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { systemClock } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

/** Of a host that can't do much. */
const BARE: HostFacts = {
  limits: { capabilities: new Set(['CAP_KILL', 'CAP_CHOWN']), hard: new Map([['RLIMIT_NOFILE', 1000]]) },
  cgroups: { kind: 'v1', v1: new Map([['pids', '/c/pids']]), v2: undefined },
  cgroupNamespaces: false,
  hostname: 'host',
  arch: 'x64',
  kernel: '6.12.0',
  seccomp: { name: 'builtin', profile: DEFAULT_SECCOMP },
  cpus: 2,
}
const image = { id: digestOf('i'), reference: 'i', config: { config: { Cmd: ['sh'] } }, layers: [] }
const DISK = 'disk quota: nothing can enforce it here'
const LXCFS = 'a truthful /proc by lxcfs: this agent has lxcfs switched off'

/** Knows no quotas and no lxcfs. */
const extension = {
  settle: (request: CreateRequest) => ({
    request: request.rich === 'init' ? { ...request, capAdd: ['CAP_SYS_BOOT'] } : request,
    warnings: [],
  }),
  async check({ diskQuota, volumeQuotas, lxcfs }: CreateRequest) {
    if (diskQuota || volumeQuotas) throw new DarnerError('HOST_UNABLE', DISK, { way: 'make a pool' })
    if (lxcfs === true) throw new DarnerError('HOST_UNABLE', LXCFS)
  },
} as Partial<RunExtension> as RunExtension

function requestFor(asked: Partial<CreateRequest>, host: Partial<HostFacts> = {}) {
  const admission = new Admission(
    { defaultRuntime: 'crun' },
    {
      images: { resolve: async () => image },
      runtimes: new Map(),
      host: { ...BARE, ...host },
      clock: systemClock,
      volumes: new Volumes('/nowhere'),
      extension,
      idmapRefusal: async () => undefined,
      idsTaken: () => [],
      mustExist: () => {},
    },
  )
  return admission.requestFor({ image: 'i', network: 'none', ...asked }, image)
}

const nofile = (hard: number) => ({ name: 'nofile', soft: 10, hard })
const device = { host: '/dev/null', target: '/dev/x', access: 'r' }
const quota = { bytes: 1 << 30 }

const ROWS: readonly {
  readonly asked: Partial<CreateRequest>
  readonly left: Partial<CreateRequest>
  readonly told: readonly RegExp[]
}[] = [
  { asked: { oomScoreAdj: -500 }, left: {}, told: [/^oom score -500: .*CAP_SYS_RESOURCE.*; left out$/] },
  { asked: { oomScoreAdj: 500 }, left: { oomScoreAdj: 500 }, told: [] },
  {
    asked: { capAdd: ['KILL', 'SYS_TIME', 'CAP_BPF', 'ALL'] },
    left: { capAdd: ['KILL', 'ALL'] },
    told: [/^capability CAP_SYS_TIME: .*bounding set/, /^capability CAP_BPF: /],
  },
  {
    asked: { ulimits: [nofile(1001), nofile(999)] },
    left: { ulimits: [nofile(999)] },
    told: [/^ulimit nofile=10:1001/],
  },
  {
    asked: {
      resources: { memoryBytes: 1 << 26, memorySwapBytes: 1 << 27, nanoCpus: 1e9, pidsLimit: 5, blkioWeight: 100 },
    },
    left: { resources: { pidsLimit: 5 } },
    told: [/^limit on memory: /, /^limit on cpu: /, /^limit on blkio: /],
  },
  { asked: { init: true }, left: {}, told: [/^init: this host has no static init; left out$/] },
  { asked: { cgroupns: 'private' }, left: { cgroupns: 'host' }, told: [/^cgroupns private: .*no cgroup namespaces/] },
  { asked: { devices: [device] }, left: { devices: [device] }, told: [/^devices: .*their nodes are there/] },
  { asked: { diskQuota: quota }, left: { logQuotaBytes: quota.bytes }, told: [/^disk quota: nothing can/] },
  { asked: { volumeQuotas: { '/data': quota } }, left: {}, told: [/^disk quota: nothing can/] },
  { asked: { lxcfs: true }, left: {}, told: [/^a truthful \/proc by lxcfs: .*off; left out$/] },
]

describe('what a host cannot enforce', () => {
  for (const { asked, left, told } of ROWS)
    it(`${JSON.stringify(asked)}: ${told.length > 0 ? 'refused, or left out with a warning that says why' : 'kept'}`, async () => {
      const { request, warnings } = await requestFor({ ...asked, forceUnsupported: true })
      assert.deepEqual(request, { image: 'i', network: 'none', forceUnsupported: true, ...left })
      assert.equal(warnings.length, told.length, warnings.join('\n'))
      for (const [at, one] of told.entries()) assert.match(warnings[at] ?? '', one)
      if (told.length === 0) return void (await requestFor(asked))
      const error = await failsWith('HOST_UNABLE', requestFor(asked))
      assert.ok(warnings[0]?.startsWith(error.message), error.message)
      assert.match(error.way ?? '', /--force-unsupported, or the label darner\.force-unsupported=true$/)
    })

  it('is left out all at once, and the rest is kept', async () => {
    const given = Object.assign({}, ...ROWS.map(({ asked }) => asked), { labels: { a: 'b' }, oomScoreAdj: -5 })
    const { request, warnings } = await requestFor({ ...given, forceUnsupported: true })
    assert.equal(warnings.length, 12, warnings.join('\n'))
    assert.deepEqual(
      [request.labels, request.resources, request.devices, request.init],
      [{ a: 'b' }, { pidsLimit: 5 }, [device], undefined],
    )
    await requestFor({ ...request, devices: [] }) // nothing that is left is refused
  })

  it('is left out of what an upgrade begins with too', async () => {
    const asked = { rich: 'init' as const, oomScoreAdj: -5, diskQuota: quota, forceUnsupported: true }
    const { request, given } = await requestFor(asked)
    const less = { image: 'i', network: 'none', rich: 'init', forceUnsupported: true, logQuotaBytes: quota.bytes }
    assert.deepEqual(given, less)
    assert.deepEqual(request, { ...less, capAdd: [] }) // the mode's own
  })

  it('is told of with the way that there is, beside the flag', async () => {
    const error = await failsWith('HOST_UNABLE', requestFor({ diskQuota: quota }))
    assert.equal(
      error.way,
      'make a pool, or go on without it: create it with --force-unsupported, or the label darner.force-unsupported=true',
    )
  })

  it('is not what no host takes: that stays refused by force', async () => {
    for (const asked of [
      { capAdd: ['NO_SUCH'] },
      { capDrop: ['NO_SUCH'] },
      { resources: { memoryBytes: 1 << 20 } },
      { resources: { memorySwapBytes: 1 << 30 } },
      { ulimits: [{ name: 'nofile', soft: 5, hard: 4 }] },
    ])
      await failsWith('BAD_ARGUMENT', requestFor({ ...asked, forceUnsupported: true }))
    await failsWith('UNSUPPORTED', requestFor({ rich: 'systemd', cgroupns: 'private', forceUnsupported: true }))
  })
})
