import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { readCreate } from '../../../runtime/engine-api/create.ts'
import { StatusError } from '../../../runtime/engine-api/errors.ts'
import { readStorage } from '../../../runtime/engine-api/host-config.ts'

function refused(body: object, status: number, message: RegExp): void {
  assert.throws(
    () => readCreate({ Image: 'i', ...body } as never, true),
    (error: unknown) => error instanceof StatusError && error.status === status && message.test(error.message),
    JSON.stringify(body),
  )
}
const host = (HostConfig: object) => readCreate({ Image: 'i', HostConfig } as never, true)

describe('readCreate', () => {
  it('takes what clients send unasked, and keeps it out of the request', () => {
    const { docker: _own, ...request } = host({
      MemorySwappiness: -1,
      OomKillDisable: false,
      Isolation: '',
      Links: null,
      ConsoleSize: [24, 80],
    })
    assert.deepEqual(request, { image: 'i', network: 'bridge' })
  })

  it('refuses options that nobody knows, and known ones that are not offered, with another way', () => {
    refused({ Nonsense: 1 }, 400, /Nonsense: unknown option/)
    refused({ HostConfig: { Nonsense: 1 } }, 400, /HostConfig.Nonsense: unknown option/)
    refused({ HostConfig: { UsernsMode: 'private' } }, 501, /userns=private is not offered: only host and auto/)
    const endpoint = (one: object) => ({ NetworkingConfig: { EndpointsConfig: { n: one } } })
    refused(endpoint({ Links: ['a b'] }), 400, /\/endpoint\/links\/0/)
    for (const NetworkMode of ['host', 'none', 'container:x'])
      refused({ HostConfig: { NetworkMode, Links: ['db'] } }, 400, /type networking can't be used with links/)
    readCreate(
      { Image: 'i', ...endpoint({ Links: null, DriverOpts: {}, IPAMConfig: { LinkLocalIPs: [] } }) } as never,
      true,
    )
    refused({ HostConfig: { CgroupnsMode: 'other' } }, 400, /invalid cgroup namespace mode: other/)
    refused({ HostConfig: { OomKillDisable: true } }, 501, /not offered: use --oom-score-adj/)
    refused({ HostConfig: { SecurityOpt: ['seccomp={"defaultAction":"x"}'] } }, 400, /syscalls is missing/)
    refused({ HostConfig: { SecurityOpt: ['seccomp=/a/path'] } }, 400, /opening seccomp profile/)
    refused({ HostConfig: { StorageOpt: { colour: 'red' } } }, 400, /unknown option colour/)
    refused({ HostConfig: { LogConfig: { Type: 'fluentd' } } }, 400, /no log driver named 'fluentd'/)
    refused({ HostConfig: { RestartPolicy: { Name: 'sometimes' } } }, 400, /unknown policy/)
    refused({ HostConfig: { OomScoreAdj: 5000 } }, 400, /Invalid value 5000, range for oom score adj is/)
    // what --security-opt systempaths=unconfined is sent as
    refused({ HostConfig: { MaskedPaths: [], ReadonlyPaths: [] } }, 501, /MaskedPaths is not offered: use --privileged/)
    const bind = { Type: 'bind', Source: '/a', Target: '/b', ReadOnly: true }
    const forced = { ...bind, BindOptions: { ReadOnlyForceRecursive: true } }
    refused({ HostConfig: { Mounts: [forced] } }, 501, /bind-recursive=readonly is not offered/)
  })

  it('keeps a volume to the size in its options, and refuses options that it does not know', () => {
    const volume = (Options: object) => ({
      Mounts: [{ Type: 'volume', Source: 'v', Target: '/data/', VolumeOptions: { DriverConfig: { Options } } }],
    })
    const { volumeQuotas } = host(volume({ size: '10m', inodes: '1000' }))
    assert.deepEqual(volumeQuotas, { '/data': { bytes: 10 << 20, inodes: 1000 } })
    assert.equal(host(volume({})).volumeQuotas, undefined)
    const code = (error: unknown) => (error as { code?: string }).code
    assert.throws(
      () => host(volume({ size: 'much' })),
      (error) => code(error) === 'BAD_ARGUMENT',
    )
    assert.throws(
      () => host(volume({ type: 'tmpfs' })),
      (error) => code(error) === 'UNSUPPORTED',
    )
  })

  it("refuses what contradicts another container's network, or the host's name, in docker's words", () => {
    const shared = (more: object, body: object = {}) => ({
      ...body,
      HostConfig: { NetworkMode: 'container:c', ...more },
    })
    refused(shared({}, { Hostname: 'h' }), 400, /^conflicting options: hostname and the network mode$/)
    refused(shared({}, { MacAddress: '02:00:00:00:00:01' }), 400, /mac-address and the network mode/)
    refused(shared({}, { ExposedPorts: { '80/tcp': {} } }), 400, /port exposing and the container type network mode/)
    refused(shared({ Dns: ['192.0.2.1'] }), 400, /dns and the network mode/)
    refused(shared({ ExtraHosts: ['a:192.0.2.1'] }), 400, /custom host-to-IP mapping and the network mode/)
    refused(shared({ PortBindings: { '80/tcp': null } }), 400, /port publishing and the container type network mode/)
    refused({ Hostname: 'h', HostConfig: { UTSMode: 'host' } }, 400, /hostname and the UTS mode/)
    assert.equal(readCreate({ Image: 'i', ...shared({}) } as never, true).network, 'container:c')
  })

  it('goes on without what the host lacks where an annotation or a label says so', () => {
    const of = (body: object) => readCreate({ Image: 'i', ...body } as never, true).forceUnsupported
    const said = (text: string) => ({ 'darner.force-unsupported': text })
    assert.equal(of({ Labels: said('true') }), true)
    assert.equal(of({ HostConfig: { Annotations: said('true') } }), true)
    assert.equal(of({ Labels: said('true'), HostConfig: { Annotations: said('false') } }), undefined)
    assert.equal(of({}), undefined)
  })

  it('passes on which cgroup namespace is asked for', () => {
    assert.equal(host({ CgroupnsMode: 'private' }).cgroupns, 'private')
    assert.equal(host({ CgroupnsMode: 'host' }).cgroupns, 'host')
    assert.equal(host({ CgroupnsMode: '' }).cgroupns, undefined)
  })

  it('takes host-gateway, and a user namespace of its own', () => {
    const { extraHosts, userns } = host({ ExtraHosts: ['me:host-gateway'], UsernsMode: 'auto' })
    assert.deepEqual([extraHosts, userns], [['me:host-gateway'], 'auto'])
  })

  it('reads binds, volumes and tmpfs, and one mount per target', () => {
    const { mounts } = host({ Binds: ['/a:/b:ro,rslave', 'named:/c:nocopy'], Tmpfs: { '/t': 'size=1m,exec' } })
    assert.deepEqual(mounts, [
      { type: 'bind', source: '/a', makeSource: true, target: '/b', readonly: true, propagation: 'rslave' },
      { type: 'volume', source: 'named', noCopy: true, target: '/c' },
      { type: 'tmpfs', target: '/t', options: ['size=1m', 'exec'] },
    ])
    refused({ HostConfig: { Binds: ['/a:/b', '/c:/b/'] } }, 400, /Duplicate mount point: \/b/)
    refused({ HostConfig: { Binds: ['/a:b'] } }, 400, /must be absolute/)
    refused({ HostConfig: { Binds: ['/a:/'] } }, 400, /destination can't be '\/'/)
    refused({ HostConfig: { Binds: ['/a:/b:sideways'] } }, 400, /invalid mode: sideways/)
    refused({ HostConfig: { Tmpfs: { '/t': 'upperdir=/etc' } } }, 400, /invalid tmpfs option/)
  })

  it('reads ports, limits and the log', () => {
    const request = host({
      PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080' }], '53/udp': [{ HostPort: '' }] },
      Memory: 1 << 26,
      NanoCpus: 5e8,
      LogConfig: { Type: 'local', Config: { 'max-size': '10k', 'max-file': '3' } },
    })
    assert.deepEqual(request.publish, [
      { containerPort: 80, protocol: 'tcp', hostPort: 8080, hostIp: '127.0.0.1' },
      { containerPort: 53, protocol: 'udp' },
    ])
    assert.deepEqual(request.resources, { memoryBytes: 1 << 26, nanoCpus: 5e8 })
    assert.deepEqual(request.log, { driver: 'json-file', maxBytes: 10_240, maxFiles: 3 })
  })

  it('reads a seccomp profile, rates of disks and room on the disk', () => {
    const profile = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}'
    const request = host({
      SecurityOpt: [`seccomp=${profile}`],
      BlkioDeviceReadBps: [{ Path: '/dev/x', Rate: 5 }],
      BlkioDeviceWriteIOps: [{ Path: '/dev/y', Rate: 7 }],
      StorageOpt: { size: '10G', inodes: '1000' },
    })
    assert.equal(request.seccompProfile, profile)
    assert.deepEqual(request.resources?.blkioRates, [
      { path: '/dev/x', what: 'readBps', rate: 5 },
      { path: '/dev/y', what: 'writeIops', rate: 7 },
    ])
    assert.deepEqual(request.diskQuota, { bytes: 10 * 2 ** 30, inodes: 1000 })
  })

  it("leaves the network to the settings for this program's own commands, whose further words it takes", () => {
    const asked = { Image: 'i', Darner: { rich: 'systemd' } }
    assert.equal(readCreate(asked as never, false).network, undefined)
    assert.equal(readCreate(asked as never, false).rich, 'systemd')
  })

  it('tells an entrypoint that is taken away from one that is left alone', () => {
    const of = (Entrypoint: unknown) => readCreate({ Image: 'i', Entrypoint } as never, true).entrypoint
    assert.equal(of([]), undefined)
    assert.equal(of(null), undefined)
    assert.deepEqual(of(['']), [])
    assert.deepEqual(of('sh'), ['sh'])
  })

  it('has no bridge where the agent has no networks, and says what to use', () => {
    assert.throws(() => readCreate({ Image: 'i' } as never, false), /use --network host or --network none/)
  })
})

describe('readStorage', () => {
  it('reads size and inodes, and refuses what is neither', () => {
    assert.deepEqual(readStorage(undefined), {})
    assert.deepEqual(readStorage({ size: '10m' }), { diskQuota: { bytes: 10 * 2 ** 20 } })
    assert.deepEqual(readStorage({ size: '1g', inodes: '1000' }), { diskQuota: { bytes: 2 ** 30, inodes: 1000 } })
    for (const bad of [
      { size: 'much' },
      { inodes: '1000' },
      { size: '1k' },
      { size: '1g', inodes: '2' },
      { other: '1' },
    ])
      assert.throws(() => readStorage(bad), { status: 400 })
  })
})
