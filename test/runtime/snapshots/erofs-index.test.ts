import { ErofsIndex } from '../../../runtime/snapshots/erofs-index.ts'
import type { PlanDir } from '../../../runtime/snapshots/layer-plan.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const FACTS = {
  ...{ path: Buffer.alloc(0), mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, major: 0, minor: 0 },
  ...{ bytes: 0, xattrs: new Map() },
} as const

describe('ErofsIndex', () => {
  it('takes no more memory than it may, for inodes and for names', () => {
    const inodes = new ErofsIndex({ mostBytes: 10_000 })
    const link = Buffer.alloc(4000, 'l')
    inodes.special({ ...FACTS, kind: 'symlink', link })
    inodes.special({ ...FACTS, kind: 'symlink', link })
    throwsWith('LIMIT_EXCEEDED', () => inodes.special({ ...FACTS, kind: 'symlink', link }))
    const names = new ErofsIndex({ mostBytes: 10_000 })
    const leaf = { kind: 'file', mark: names.file({ ...FACTS, kind: 'file', link: Buffer.alloc(0) }, 0) } as const
    const children = new Map(Array.from({ length: 100 }, (_, at) => [String(at).padEnd(200, 'x'), leaf]))
    const root: PlanDir = { kind: 'dir', children, facts: undefined, opaque: false, mark: 0 }
    throwsWith('LIMIT_EXCEEDED', () => names.finish(root, { uuid: new Uint8Array(16), dataBytes: 512 }))
  })
})
