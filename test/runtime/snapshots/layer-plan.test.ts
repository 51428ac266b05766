import assert from 'node:assert/strict'
import { LayerPlan, type LayerStep } from '../../../runtime/snapshots/layer-plan.ts'
import { TarReader } from '../../../runtime/snapshots/tar.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { aTar, type TarEntry } from '../../fixtures/images/a-tar.ts'

function planOf(entries: readonly TarEntry[], limit = 1000): { steps: string[]; plan: LayerPlan } {
  const plan = new LayerPlan({ entries: limit })
  const steps: string[] = []
  const reader = new TarReader({
    entry: (entry) => void steps.push(...plan.place(entry).map(shown)),
    data: () => {},
    endEntry: () => {},
  })
  reader.push(aTar(entries))
  return { steps, plan }
}

function shown(step: LayerStep): string {
  const tail =
    step.do === 'settle' ? (step.opaque ? ' opaque' : '') : step.replaces === 'nothing' ? '' : ` over ${step.replaces}`
  return `${step.do} ${step.path}${tail}${step.do === 'link' ? ` -> ${step.target}` : ''}`
}

describe('LayerPlan', () => {
  it('makes missing parents, once, and settles directories deepest first', () => {
    const { steps, plan } = planOf([
      { name: 'a/b/c', body: '' },
      { name: 'a/b/', mode: 0o700 },
      { name: './a//b/./d', body: '' },
    ])
    assert.deepEqual(steps, ['mkdir a', 'mkdir a/b', 'make a/b/c', 'make a/b/d'])
    assert.deepEqual([...plan.settle()].map(shown), ['settle a/b', 'settle a', 'settle '])
    assert.deepEqual(plan.implied().map(String), ['', 'a'])
  })

  it('follows symlinks inside the root only', () => {
    const { steps } = planOf([
      { name: 'real/' },
      { name: 'abs', type: 'symlink', link: '/real' },
      { name: 'chain', type: 'symlink', link: 'abs/../abs' },
      { name: 'out', type: 'symlink', link: '../../../etc' },
      { name: 'abs/1', body: '' },
      { name: 'chain/2', body: '' },
      { name: 'out/3', body: '' },
    ])
    assert.deepEqual(steps.slice(4), ['make real/1', 'make real/2', 'mkdir etc', 'make etc/3'])
  })

  it('replaces a symlink by an entry of its name instead of writing through it', () => {
    const { steps } = planOf([
      { name: 's', type: 'symlink', link: '/etc/passwd' },
      { name: 's', body: 'x' },
      { name: 's/', type: 'dir' },
    ])
    assert.deepEqual(steps, ['make s', 'make s over leaf', 'mkdir s over leaf'])
  })

  it('lets a whiteout hide only what lower layers have', () => {
    const { steps, plan } = planOf([
      { name: 'd/f', body: '' },
      { name: '.wh.d', body: '' },
      { name: 'd/.wh.f', body: '' },
      { name: '.wh.gone', body: '' },
      { name: 'gone/x', body: '' },
    ])
    assert.deepEqual(steps, ['mkdir d', 'make d/f', 'whiteout gone', 'mkdir gone over leaf', 'make gone/x'])
    assert.deepEqual([...plan.settle()].map(shown), ['settle d opaque', 'settle gone opaque', 'settle '])
  })

  it('links files of the layer only', () => {
    assert.deepEqual(
      planOf([
        { name: 'a/f', body: '' },
        { name: 'l', type: 'link', link: '/a/f' },
      ]).steps.at(-1),
      'link l -> a/f',
    )
    throwsWith('LAYER_INVALID', () => planOf([{ name: 'l', type: 'link', link: 'a/f' }]))
    throwsWith('LAYER_INVALID', () =>
      planOf([
        { name: 'd/f', body: '' },
        { name: 'd', type: 'link', link: 'd/f' },
      ]),
    )
  })

  it('bounds entries and the span of files', () => {
    throwsWith('LIMIT_EXCEEDED', () =>
      planOf(
        [
          { name: 'a', body: '' },
          { name: 'b', body: '' },
        ],
        1,
      ),
    )
    throwsWith('LIMIT_EXCEEDED', () => planOf([{ name: 'd/'.repeat(2000), type: 'dir' }], 1999))
    const bytes = 2 ** 39
    const huge = (name: string): TarEntry => ({ name, sparse: { style: 'pax-1.0', bytes, chunks: [] } })
    planOf([huge('a'), huge('b')])
    throwsWith('LIMIT_EXCEEDED', () => planOf([huge('a'), huge('b'), { name: 'c', body: 'x' }]))
  })

  it('bounds the paths of directories that nothing but long names imply', () => {
    const plan = new LayerPlan({ entries: 1e6 })
    const reader = new TarReader({ entry: (entry) => void plan.place(entry), data: () => {}, endEntry: () => {} })
    const deep = (at: number) => aTar([{ name: `${at}/${'d/'.repeat(2000)}f`, body: '' }], { end: false })
    for (let at = 0; at < 16; at++) reader.push(deep(at))
    throwsWith('LIMIT_EXCEEDED', () => reader.push(deep(16)), /directories that no entry states/)
  })

  it('bounds what it keeps of entries: attributes of directories and targets of symlinks', () => {
    const bytes = 60_000
    const taken = Math.floor((256 * 1024 ** 2) / bytes)
    const reader = () => {
      const plan = new LayerPlan({ entries: 1e6 })
      return new TarReader({ entry: (entry) => void plan.place(entry), data: () => {}, endEntry: () => {} })
    }
    const noted = aTar([{ name: 'd/', xattrs: { 'user.note': 'n'.repeat(bytes) } }], { end: false })
    const dirs = reader()
    for (let at = 0; at < taken; at++) dirs.push(noted)
    throwsWith('LIMIT_EXCEEDED', () => dirs.push(noted), /attributes of directories/)
    const links = reader()
    const link = aTar([{ name: 's', type: 'symlink', link: 'l'.repeat(4095) }], { end: false })
    const many = Buffer.concat(Array.from({ length: 1000 }, () => link))
    for (let at = 0; at < 65; at++) links.push(many)
    throwsWith('LIMIT_EXCEEDED', () => links.push(many), /targets of symlinks/)
  })

  it('does not run out of stack on deep trees', () => {
    const { plan } = planOf([{ name: 'd/'.repeat(2000), type: 'dir' }], 2000)
    assert.equal([...plan.settle()].length, 2001)
  })
})
