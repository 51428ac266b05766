import assert from 'node:assert/strict'
import { parseMountInfo } from '../../../runtime/lxcfs/mount-table.ts'

describe('parseMountInfo', () => {
  it('reads device, target and type, with optional fields and escapes', () => {
    const text = [
      '36 35 98:0 / / rw,noatime master:1 - ext3 /dev/root rw',
      '40 36 0:55 /proc/meminfo /proc/meminfo ro,nosuid shared:3 master:2 - fuse.lxcfs lxcfs rw',
      '41 36 0:56 / /with\\040blank rw - tmpfs tmpfs rw',
      'torn line',
      '',
    ].join('\n')
    assert.deepEqual(parseMountInfo(text), [
      { device: '98:0', target: '/', type: 'ext3' },
      { device: '0:55', target: '/proc/meminfo', type: 'fuse.lxcfs' },
      { device: '0:56', target: '/with blank', type: 'tmpfs' },
    ])
  })
})
