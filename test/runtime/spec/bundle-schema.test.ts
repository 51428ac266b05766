import assert from 'node:assert/strict'
import { readImageConfig } from '../../../runtime/spec/image-config.ts'
import { DEFAULT_SECCOMP } from '../../../runtime/spec/seccomp-default.ts'
import { buildSpec, type HostFacts } from '../../../runtime/spec/spec.ts'
import { bundleFaults, SCHEMA_FILE } from '../../fixtures/engine/oci-bundle.ts'
import { needs } from '../../fixtures/host/needs.ts'

const host: HostFacts = {
  limits: { capabilities: new Set(['CAP_CHOWN', 'CAP_KILL']), hard: new Map() },
  cgroups: { kind: 'v2', v1: new Map(), v2: { path: '/sys/fs/cgroup', controllers: [] } },
  cgroupNamespaces: true,
  hostname: 'host',
  arch: 'x64',
  kernel: '6.12.0',
  seccomp: { name: 'builtin', profile: DEFAULT_SECCOMP },
  cpus: 2,
}
const spec = buildSpec({
  id: 'f'.repeat(64),
  rootfs: '/r',
  image: readImageConfig({ config: { Cmd: ['sh'] } }, 'i'),
  request: { image: 'i', network: 'none', ulimits: [{ name: 'nofile', soft: 10, hard: 20 }] },
  user: { uid: 0, gid: 0, additionalGids: [1], home: '/' },
  host,
  cgroupPath: '/darner/x',
  files: { hostname: '/b/hostname', hosts: '/b/hosts', resolvConf: '/b/resolv.conf' },
  mounts: [{ destination: '/data', type: 'bind', source: '/host', options: ['rbind', 'rslave'] }],
  devices: [{ device: { path: '/dev/fuse', type: 'c', major: 10, minor: 229 }, access: 'rw' }],
})

/** `npm test` holds every bundle that is made on a stage against the same. */
describe('a bundle by the schema of runtime-spec', () => {
  before(function () {
    needs(this, { files: [SCHEMA_FILE] })
  })

  it('is what buildSpec makes', () => {
    assert.deepEqual(bundleFaults(spec), [])
  })

  const { process, linux } = spec
  const wrong: Record<string, object> = {
    'no root': { ...spec, root: undefined },
    'a relative working directory': { ...spec, process: { ...process, cwd: 'x' } },
    'an argument that is no text': { ...spec, process: { ...process, args: [1] } },
    'a limit twice': { ...spec, process: { ...process, rlimits: [...process.rlimits, ...process.rlimits] } },
    'a namespace that is none': { ...spec, linux: { ...linux, namespaces: [...linux.namespaces, { type: 'disk' }] } },
    'a namespace twice': { ...spec, linux: { ...linux, namespaces: [...linux.namespaces, { type: 'pid' }] } },
    'a host name of the host': { ...spec, hostname: 'x', linux: { ...linux, namespaces: [] } },
    'ids without a user namespace': {
      ...spec,
      linux: { ...linux, uidMappings: [{ containerID: 0, hostID: 1, size: 1 }] },
    },
    'a mount nowhere': { ...spec, mounts: [{ type: 'tmpfs' }] },
    'a bind of nothing': { ...spec, mounts: [{ destination: '/x', type: 'bind', options: ['bind'] }] },
    'a sysctl that is no text': { ...spec, linux: { ...linux, sysctl: { 'net.a': 1 } } },
    'a device without a number': { ...spec, linux: { ...linux, devices: [{ path: '/dev/x', type: 'c' }] } },
    'an unknown seccomp action': { ...spec, linux: { ...linux, seccomp: { defaultAction: 'SCMP_ACT_MAYBE' } } },
  }
  for (const [what, config] of Object.entries(wrong)) {
    it(`is not one with ${what}`, () => {
      assert.notEqual(bundleFaults(JSON.parse(JSON.stringify(config)))?.length, 0)
    })
  }
})
