import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'mocha'
import { hostSeccomp, parseSeccompProfile, resolveSeccomp, seccompOf } from '../../../runtime/spec/seccomp.ts'
import { DEFAULT_SECCOMP } from '../../../runtime/spec/seccomp-default.ts'
import { failsWith, throwsWith } from '../../fixtures/fails-with.ts'
import { needs } from '../../fixtures/host/needs.ts'

const PODMANS = '/usr/share/containers/seccomp.json'
/** Calls that docker knows and this version of podman's file doesn't, or that are refused by name only here. */
const UNKNOWN_TO_PODMAN = [
  '_sysctl',
  'add_key',
  'create_module',
  'get_kernel_syms',
  'request_key',
  'riscv_hwprobe',
  'set_mempolicy_home_node',
]

const builtin = { name: 'builtin', profile: DEFAULT_SECCOMP }

describe('the seccomp profile that comes with darner (row 12)', () => {
  it('is there without any file of the distribution', async () => {
    assert.deepEqual(await hostSeccomp('builtin', true), builtin)
  })

  it('names no call that podman’s profile does not know, but for a few', async function () {
    needs(this, { files: [PODMANS] })
    const podmans = parseSeccompProfile(JSON.parse(await readFile(PODMANS, 'utf8')), PODMANS)
    const names = (profile: typeof podmans) => new Set(profile.syscalls.flatMap((one) => one.names))
    const known = names(podmans)
    assert.deepEqual([...names(DEFAULT_SECCOMP)].filter((one) => !known.has(one)).sort(), UNKNOWN_TO_PODMAN)
  })

  for (const arch of ['x64', 'arm64', 's390x', 'ppc64', 'riscv64'])
    for (const capabilities of [[], ['CAP_SYS_ADMIN'], ['CAP_BPF', 'CAP_SYSLOG'], ['CAP_SYS_CHROOT', 'CAP_SYS_PTRACE']])
      it(`allows and refuses no call at once on ${arch} with ${capabilities.join(' and ') || 'no capability'}`, () => {
        const { syscalls } = resolveSeccomp(DEFAULT_SECCOMP, { capabilities, arch, kernel: '6.12' })
        const plain = (action: string) =>
          syscalls.filter((one) => one.action === action && one.args === undefined).flatMap((one) => one.names)
        const allowed = new Set(plain('SCMP_ACT_ALLOW'))
        assert.deepEqual(
          plain('SCMP_ACT_ERRNO').filter((one) => allowed.has(one)),
          [],
        )
        assert.equal(allowed.has('mount'), capabilities.includes('CAP_SYS_ADMIN'))
        assert.equal(
          allowed.has('bpf'),
          capabilities.some((one) => ['CAP_SYS_ADMIN', 'CAP_BPF'].includes(one)),
        )
        const byArguments = syscalls.filter((one) => one.names.includes('clone') && one.args !== undefined)
        assert.equal(byArguments.length, capabilities.includes('CAP_SYS_ADMIN') ? 0 : 8)
        assert.ok(byArguments.every((one) => one.args?.[0]?.index === (arch === 's390x' ? 1 : 0)))
      })
})

describe('seccompOf', () => {
  it('runs nothing unconfined that did not ask for it, where there is no profile (row 12)', () => {
    throwsWith('HOST_UNABLE', () => seccompOf({}, undefined), /filters no system calls/)
    throwsWith('HOST_UNABLE', () => seccompOf({ privileged: true, seccomp: 'default' }, undefined))
    throwsWith('HOST_UNABLE', () => seccompOf({ seccompProfile: '{}' }, undefined))
    assert.equal(seccompOf({ seccomp: 'unconfined' }, undefined), undefined)
    assert.equal(seccompOf({ privileged: true }, undefined), undefined)
  })

  it("takes a container's own profile before the host's", () => {
    const own = JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [] })
    assert.equal(seccompOf({ seccompProfile: own }, builtin)?.profile.defaultAction, 'SCMP_ACT_ALLOW')
    assert.equal(seccompOf({}, builtin), builtin)
  })
})

describe('hostSeccomp', () => {
  it('refuses a setting that names no profile, and has none where the kernel filters nothing', async () => {
    await failsWith('CONFIG_INVALID', hostSeccomp('/nowhere/seccomp.json', true), /\/nowhere\/seccomp\.json: ENOENT/)
    assert.equal(await hostSeccomp('builtin', false), undefined)
  })
})
