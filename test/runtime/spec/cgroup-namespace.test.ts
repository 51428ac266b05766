import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { cgroupnsOf, checkCgroupns } from '../../../runtime/spec/cgroup-namespace.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

describe('cgroupnsOf', () => {
  it('is what was asked, else private on v2 and the host on v1; a systemd has one where it is shown a v2', () => {
    assert.equal(cgroupnsOf({}, { kind: 'v2' }), 'private')
    assert.equal(cgroupnsOf({}, { kind: 'hybrid' }), 'host')
    assert.equal(cgroupnsOf({ cgroupns: 'host' }, { kind: 'v2' }), 'host')
    assert.equal(cgroupnsOf({ cgroupns: 'private' }, { kind: 'v1' }), 'private')
    assert.equal(cgroupnsOf({ rich: 'systemd' }, { kind: 'hybrid' }), 'private')
    assert.equal(cgroupnsOf({ rich: 'systemd' }, { kind: 'v1' }), 'host')
  })
})

describe('checkCgroupns', () => {
  const host = { cgroups: { kind: 'hybrid' as const }, cgroupNamespaces: false }

  it('refuses what the kernel has not, and nothing that nobody asked for', () => {
    throwsWith('HOST_UNABLE', () => checkCgroupns({ cgroupns: 'private' }, host), /no cgroup namespaces/)
    checkCgroupns({ cgroupns: 'private' }, { ...host, cgroupNamespaces: true })
    checkCgroupns({ cgroupns: 'host' }, host)
    checkCgroupns({}, { ...host, cgroups: { kind: 'v2' } })
  })

  it('refuses a systemd what it does not get, and takes what inspect says of it', () => {
    const able = { ...host, cgroupNamespaces: true }
    throwsWith('UNSUPPORTED', () => checkCgroupns({ cgroupns: 'host', rich: 'systemd' }, able), /has private/)
    checkCgroupns({ cgroupns: 'private', rich: 'systemd' }, able)
  })
})
