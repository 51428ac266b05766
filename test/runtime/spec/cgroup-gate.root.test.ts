import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { CgroupGate } from '../../../runtime/spec/cgroup-gate.ts'
import { readCgroupLayout } from '../../../runtime/spec/cgroups.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

describe('the gate to cgroups', () => {
  before(function () {
    onStage(this)
  })

  it('is opened without moving whoever opens it, also where it has no cgroups', async () => {
    const before = await readFile('/proc/self/cgroup', 'utf8')
    const gate = new CgroupGate(await readCgroupLayout())
    await Promise.all([gate.open(), gate.open()])
    await gate.open()
    await new CgroupGate({ kind: 'none', v1: new Map(), v2: undefined }).open()
    await new CgroupGate({ kind: 'v2', v1: new Map(), v2: { path: '/absent', controllers: [] } }).open()
    assert.equal(await readFile('/proc/self/cgroup', 'utf8'), before)
  })
})
