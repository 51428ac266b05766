import assert from 'node:assert/strict'
import { parseCgroupMounts } from '../../../runtime/spec/cgroups.ts'
import { clampRlimits, parseBoundingSet, parseLimits } from '../../../runtime/spec/host-limits.ts'
import { readImageConfig } from '../../../runtime/spec/image-config.ts'
import { parseSeccompProfile, resolveSeccomp } from '../../../runtime/spec/seccomp.ts'
import { DEFAULT_SECCOMP } from '../../../runtime/spec/seccomp-default.ts'
import {
  buildSpec,
  capabilitiesOf,
  execProcess,
  type HostFacts,
  networkSysctlsOf,
  type SpecInput,
} from '../../../runtime/spec/spec.ts'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

// a bounding set without CAP_SYS_RESOURCE, as some virtual machines give
const STATUS = 'Name:\tx\nCapBnd:\t000001fffeffffff\n'
const LIMITS = [
  'Limit                     Soft Limit           Hard Limit           Units     ',
  'Max cpu time              unlimited            unlimited            seconds   ',
  'Max open files            20000                20000                files     ',
].join('\n')

const limits = { capabilities: parseBoundingSet(STATUS), hard: parseLimits(LIMITS) }

function aHost(overrides: Partial<HostFacts> = {}): HostFacts {
  const cgroups = { kind: 'hybrid' as const, v1: new Map(), v2: undefined }
  const kernel = { arch: 'x64', kernel: '6.12.0', cgroupNamespaces: true }
  return {
    limits,
    cgroups,
    hostname: 'host',
    ...kernel,
    seccomp: { name: 'builtin', profile: DEFAULT_SECCOMP },
    cpus: 2,
    ...overrides,
  }
}

function aSpec(request: Partial<CreateRequest>, host = aHost(), uid = 0, more: Partial<SpecInput> = {}) {
  return buildSpec({
    id: 'f'.repeat(64),
    rootfs: '/r',
    image: readImageConfig({ config: { Cmd: ['sh'] } }, 'i'),
    request: { image: 'i', ...request },
    user: { uid, gid: 0, additionalGids: [], home: '/' },
    host,
    cgroupPath: '/darner/x',
    files: { hostname: '/b/hostname', hosts: '/b/hosts', resolvConf: '/b/resolv.conf' },
    ...more,
  })
}

describe('capabilitiesOf', () => {
  it('stays inside the bounding set of the host', () => {
    assert.ok(!limits.capabilities.has('CAP_SYS_RESOURCE'))
    assert.equal(capabilitiesOf({ image: 'i' }, limits).length, 14)
    assert.ok(!capabilitiesOf({ image: 'i', capAdd: ['ALL'] }, limits).includes('CAP_SYS_RESOURCE'))
    throwsWith(
      'HOST_UNABLE',
      () => capabilitiesOf({ image: 'i', capAdd: ['SYS_RESOURCE'] }, limits),
      /CAP_SYS_RESOURCE/,
    )
    assert.deepEqual(capabilitiesOf({ image: 'i' }, { ...limits, capabilities: new Set(['CAP_KILL']) }), ['CAP_KILL'])
  })

  it('adds and drops by name, with or without CAP_', () => {
    assert.deepEqual(capabilitiesOf({ image: 'i', capDrop: ['all'], capAdd: ['net_admin', 'CAP_CHOWN'] }, limits), [
      'CAP_NET_ADMIN',
      'CAP_CHOWN',
    ])
    assert.ok(!capabilitiesOf({ image: 'i', capDrop: ['MKNOD'] }, limits).includes('CAP_MKNOD'))
    throwsWith('BAD_ARGUMENT', () => capabilitiesOf({ image: 'i', capAdd: ['NONSENSE'] }, limits))
  })
})

describe('clampRlimits', () => {
  it('lowers to the hard limits of a host that may not raise them', () => {
    const wanted = [{ type: 'RLIMIT_NOFILE', soft: 100_000, hard: 1_000_000 }]
    assert.deepEqual(clampRlimits(wanted, limits), [{ type: 'RLIMIT_NOFILE', soft: 20_000, hard: 20_000 }])
    const free = { ...limits, capabilities: new Set(['CAP_SYS_RESOURCE']) }
    assert.deepEqual(clampRlimits(wanted, free), wanted)
  })
})

describe('buildSpec', () => {
  it('gives a network namespace and an own host name only without the network of the host', () => {
    const types = (spec: ReturnType<typeof aSpec>) => spec.linux.namespaces.map((one) => one.type)
    const host = aSpec({})
    assert.ok(!types(host).includes('network'))
    assert.equal(host.hostname, 'host')
    const none = aSpec({ network: 'none' })
    assert.ok(types(none).includes('network'))
    assert.equal(none.hostname, 'ffffffffffff')
    assert.ok(none.process.env.includes('HOSTNAME=ffffffffffff'))
  })

  it('gives an own cgroup namespace on pure v2', () => {
    const v2 = aHost({ cgroups: { kind: 'v2', v1: new Map(), v2: { path: '/sys/fs/cgroup', controllers: ['cpu'] } } })
    assert.ok(aSpec({}, v2).linux.namespaces.some((one) => one.type === 'cgroup'))
    assert.ok(!aSpec({}).linux.namespaces.some((one) => one.type === 'cgroup'))
    assert.ok(!aSpec({ cgroupns: 'host' }, v2).linux.namespaces.some((one) => one.type === 'cgroup'))
    assert.ok(aSpec({ cgroupns: 'private' }).linux.namespaces.some((one) => one.type === 'cgroup'))
  })

  it('lets only root start with effective capabilities', () => {
    const { capabilities } = aSpec({}, aHost(), 1000).process
    assert.deepEqual([capabilities.effective, capabilities.permitted], [[], []])
    assert.equal(capabilities.bounding.length, 14)
    assert.equal(aSpec({}).process.capabilities.effective.length, 14)
  })
})

describe('execProcess', () => {
  const main = aSpec({ noNewPrivileges: true, env: ['A=1'] }).process

  it('is confined as the first process is', () => {
    const made = execProcess(main, { command: ['ls'], env: ['B=2'], tty: false })
    assert.equal(made.noNewPrivileges, true)
    assert.deepEqual(made.capabilities, main.capabilities)
    assert.ok(made.env.includes('A=1') && made.env.includes('B=2'))
    const user = execProcess(main, {
      command: ['ls'],
      env: [],
      tty: false,
      user: { uid: 7, gid: 7, additionalGids: [], home: '/h' },
    })
    assert.deepEqual(user.capabilities.effective, [])
    assert.ok(user.env.includes('HOME=/h') && !user.env.includes('HOME=/'))
  })

  it('refuses an empty command and a relative directory', () => {
    for (const command of [[], [''], ['a\0']])
      throwsWith('BAD_ARGUMENT', () => execProcess(main, { command, env: [], tty: false }))
    throwsWith('BAD_ARGUMENT', () => execProcess(main, { command: ['ls'], env: [], tty: false, workdir: 'x' }))
  })
})

describe('resolveSeccomp', () => {
  const profile = parseSeccompProfile(
    {
      defaultAction: 'SCMP_ACT_ERRNO',
      archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
      syscalls: [
        { names: ['read'], action: 'SCMP_ACT_ALLOW', args: null },
        { names: ['mount'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
        { names: ['mount'], action: 'SCMP_ACT_ERRNO', errnoRet: 1, excludes: { caps: ['CAP_SYS_ADMIN'] } },
        { names: ['arm_only'], action: 'SCMP_ACT_ALLOW', includes: { arches: ['arm64'] } },
        { names: ['young'], action: 'SCMP_ACT_ALLOW', includes: { minKernel: '6.13' } },
      ],
    },
    'test',
  )
  const names = (capabilities: string[], arch = 'x64', kernel = '6.12.1') =>
    resolveSeccomp(profile, { capabilities, arch, kernel }).syscalls.map((one) => `${one.names} ${one.action}`)

  it('takes the rules that hold for capabilities, architecture and kernel', () => {
    assert.deepEqual(names([]), ['read SCMP_ACT_ALLOW', 'mount SCMP_ACT_ERRNO'])
    assert.deepEqual(names(['CAP_SYS_ADMIN']), ['read SCMP_ACT_ALLOW', 'mount SCMP_ACT_ALLOW'])
    assert.deepEqual(names([], 'arm64', '7.0'), [
      'read SCMP_ACT_ALLOW',
      'mount SCMP_ACT_ERRNO',
      'arm_only SCMP_ACT_ALLOW',
      'young SCMP_ACT_ALLOW',
    ])
    const resolved = resolveSeccomp(profile, { capabilities: [], arch: 'x64', kernel: '6.12' })
    assert.deepEqual(resolved.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'])
  })

  it('refuses a file that is no profile', () => {
    throwsWith('CONFIG_INVALID', () => parseSeccompProfile({ syscalls: [] }, 'p'), /seccomp profile p/)
  })
})

describe('a user namespace', () => {
  const idmap = { base: 100_000, size: 65_536 }

  it('maps ids from 0 up, and lets only its own groups ping in a network of its own', () => {
    const { linux } = aSpec({ network: 'none' }, aHost(), 0, { idmap })
    assert.ok(linux.namespaces.some((one) => one.type === 'user'))
    for (const map of [linux.uidMappings, linux.gidMappings])
      assert.deepEqual(map, [{ containerID: 0, hostID: 100_000, size: 65_536 }])
    assert.equal(linux.sysctl?.['net.ipv4.ping_group_range'], '0 65535')
    assert.equal(aSpec({}).linux.uidMappings, undefined)
  })

  it("leaves /sys and settings of a network that is the host's to the engine", () => {
    const given = { idmap, sysfs: '/staged/sys', netnsPath: '/run/netns/x' }
    const sysctls = { 'net.core.somaxconn': '99', 'kernel.shmmax': '1' }
    const { linux, mounts } = aSpec({ network: 'bridge', sysctls }, aHost(), 0, given)
    assert.deepEqual(linux.sysctl, { 'kernel.shmmax': '1' })
    const sys = mounts.find((one) => one.destination === '/sys')
    assert.deepEqual([sys?.type, sys?.source, sys?.options?.includes('ro')], ['bind', '/staged/sys', true])
    assert.equal(networkSysctlsOf({ image: 'i', sysctls })['net.core.somaxconn'], '99')
  })
})

describe('parseCgroupMounts', () => {
  it('finds each controller where it is mounted', () => {
    const { v1, v2Path } = parseCgroupMounts(
      [
        '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755',
        '32 31 0:29 / /sys/fs/cgroup/cpu\\040set rw - cgroup cgroup rw,cpu,cpuacct',
        '40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd',
        '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw',
      ].join('\n'),
    )
    assert.deepEqual(
      [...v1],
      [
        ['cpu', '/sys/fs/cgroup/cpu set'],
        ['cpuacct', '/sys/fs/cgroup/cpu set'],
        ['name=systemd', '/sys/fs/cgroup/systemd'],
      ],
    )
    assert.equal(v2Path, '/sys/fs/cgroup/unified')
  })
})
