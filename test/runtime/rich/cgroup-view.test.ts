import assert from 'node:assert/strict'
import { cgroupViewFor } from '../../../runtime/rich/cgroup-view.ts'
import type { CgroupLayout } from '../../../runtime/spec/cgroups.ts'
import { isDarnerError } from '../../../src/core/errors.ts'

const named = new Map([['name=systemd', '/sys/fs/cgroup/systemd']])
const LAYOUTS: Record<string, Pick<CgroupLayout, 'kind' | 'v1' | 'v2'>> = {
  v2: { kind: 'v2', v1: new Map(), v2: { path: '/sys/fs/cgroup', controllers: ['memory'] } },
  hybrid: { kind: 'hybrid', v1: named, v2: { path: '/sys/fs/cgroup/unified', controllers: [] } },
  v1: { kind: 'v1', v1: named, v2: undefined },
  'v1 without name=systemd': { kind: 'v1', v1: new Map([['memory', '/m']]), v2: undefined },
  none: { kind: 'none', v1: new Map(), v2: undefined },
}

describe('cgroupViewFor', () => {
  const rows: [number | undefined, string, string][] = [
    [257, 'v2', 'v2'],
    [undefined, 'v2', 'v2'],
    [219, 'v2', 'systemd 219 needs cgroup v1, and this host has cgroup v2 only'],
    [257, 'hybrid', 'v2-beside-v1'],
    [219, 'hybrid', 'v1'],
    [247, 'v1', 'v1'],
    [258, 'v1', 'systemd 258 needs cgroup v2, and this host has cgroup v1 only'],
    [
      219,
      'v1 without name=systemd',
      'systemd 219 needs a name=systemd hierarchy, and this host has cgroup v1 without a name=systemd hierarchy',
    ],
    [257, 'none', 'systemd 257 needs cgroup v2, and this host has no cgroups'],
  ]
  for (const [version, layout, wanted] of rows) {
    it(`systemd ${version} on ${layout}: ${wanted}`, () => {
      const at = LAYOUTS[layout] ?? assert.fail()
      let got: string
      try {
        got = cgroupViewFor(version, at)
      } catch (error) {
        assert.ok(isDarnerError(error, 'HOST_UNABLE'))
        got = error.message
      }
      assert.equal(got, wanted)
    })
  }
})
