import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { fillsOf } from '../../../runtime/snapshots/implied.ts'
import type { LayerRecord } from '../../../runtime/snapshots/layers.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

/** Layers as folders, lowest first; each has these directories, and whiteouts in those that are marked with `-`. */
function aStack(base: string, layers: readonly (readonly string[])[]) {
  const folders = layers.map((_, index) => join(base, String(index)))
  const bare = (path: string) => path.replace(/-$/, '')
  for (const [index, paths] of layers.entries())
    for (const path of paths) mkdirSync(join(folders[index] ?? '', bare(path)), { recursive: true })
  const records = layers.map((paths) => ({
    implied: [] as string[],
    hiding: paths.filter((path) => path.endsWith('-')).map(bare),
  }))
  return { folders, records: records as unknown as LayerRecord[], root: false }
}

describe('fillsOf', () => {
  it('repeats a directory with whiteouts that no other layer has, and its parents as the highest layer states them', async () => {
    await using dir = await aDir()
    const stack = aStack(dir.path, [['var/cache', 'etc'], ['etc-', 'var/lib/gone-'], ['var/lib']])
    assert.deepEqual(await fillsOf(stack), [
      { path: 'var/lib/gone', from: 1 },
      { path: 'var/lib', from: 2 },
      { path: 'var', from: 2 },
      { path: '', from: 2 },
    ])
  })

  it('lets other work have its turn while it looks for many', async () => {
    await using dir = await aDir()
    const many = Array.from({ length: 500 }, (_, at) => `d${at}-`)
    const stack = aStack(dir.path, [many.map((path) => path.slice(0, -1)), many])
    let turns = 0
    let over = false
    const count = () => {
      turns++
      if (!over) setImmediate(count)
    }
    setImmediate(count)
    assert.deepEqual(await fillsOf(stack), [])
    over = true
    assert.ok(turns >= 5, `${turns} turns`)
  })
})
