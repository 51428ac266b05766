// long: a campaign of random layers, whose seeds are new each time; DARNER_TEST_SEED=N repeats one
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { getXattr, listXattrs } from '../../../runtime/linux/syscalls.ts'
import { seededRandom } from '../../../src/core/clock.ts'
import { aSnapshotter } from '../../fixtures/engine/a-snapshotter.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { programPath } from '../../fixtures/host/needs.ts'
import { lineOf, linesOf, randomLayer, stacked } from '../../fixtures/images/random-layers.ts'

const ROUNDS = 30
const FIRST = Number(process.env.DARNER_TEST_SEED ?? Date.now() % 2 ** 31)

/** As `linesOf` a model. */
function linesBelow(root: string): string[] {
  const lines: string[] = []
  const visit = (path: Buffer) => {
    const at = Buffer.concat([Buffer.from(`${root}/`), path.length > 0 ? path : Buffer.from('.')])
    const { mode, uid, gid, mtimeNs, rdev } = lstatSync(at, { bigint: true })
    const kind = KINDS.get(Number(mode) & 0o170000) ?? 'unknown'
    // gnu_dev_major(3)
    const [major, minor] = [(rdev >> 8n) & 0xfffn, (rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n)]
    const what =
      kind === 'dir'
        ? ''
        : kind === 'file'
          ? readFileSync(at, 'latin1')
          : kind === 'symlink'
            ? readlinkSync(at, 'latin1')
            : `${major}:${minor}`
    const attributes = (kind === 'symlink' ? [] : listXattrs(at))
      .filter((name) => name.startsWith('user.'))
      .sort()
      .flatMap((name) => [name, Buffer.from(getXattr(at, name) ?? []).toString()])
    lines.push(
      lineOf({
        path: path.toString('latin1'),
        ...{
          kind,
          mode: Number(mode) & 0o7777,
          uid: Number(uid),
          gid: Number(gid),
          mtime: Number(mtimeNs / 1_000_000n) / 1000,
        },
        ...{ attributes: attributes.join('='), what },
      }),
    )
    if (kind !== 'dir') return
    for (const name of readdirSync(at, 'buffer'))
      visit(path.length > 0 ? Buffer.concat([path, Buffer.from('/'), name]) : name)
  }
  visit(Buffer.alloc(0))
  return lines.sort()
}

const KINDS = new Map([
  [0o040000, 'dir'],
  [0o100000, 'file'],
  [0o120000, 'symlink'],
  [0o010000, 'fifo'],
  [0o020000, 'char'],
  [0o060000, 'block'],
])

function same(seen: readonly string[], told: readonly string[], said: string): void {
  const lacking = (some: readonly string[], others: readonly string[]) => {
    const known = new Set(others)
    return some.filter((line) => !known.has(line))
  }
  assert.deepEqual({ seen: lacking(seen, told), told: lacking(told, seen) }, { seen: [], told: [] }, said)
}

describe('random layers', function () {
  this.timeout(120_000)
  before(function () {
    onStage(this)
  })

  it(`show what a plain model of them says, alone and stacked, in both formats (seeds ${FIRST} to ${FIRST + ROUNDS - 1})`, async () => {
    await using images = await aSnapshotter('erofs')
    await using trees = await aSnapshotter('directory')
    const checker = programPath('fsck.erofs')
    for (let seed = FIRST; seed < FIRST + ROUNDS; seed++) {
      const random = seededRandom(seed)
      const lower = randomLayer(random)
      const upper = randomLayer(random, lower.root)
      for (const held of [images, trees]) {
        const said = `seed ${seed}, ${held.snapshotter.kind}`
        try {
          const layers = [await held.add(lower.entries), await held.add(upper.entries)]
          if (checker !== undefined && held === images)
            for (const { diffId } of layers) {
              const folder = join(held.directory, 'erofs/layers', diffId.replace(':', '-'))
              execFileSync(checker, [`--device=${join(folder, 'layer.tar')}`, join(folder, 'layer.erofs')], {
                stdio: 'pipe',
              })
            }
          const alone = await held.stack(`alone-${seed}`, layers.slice(0, 1), { readonly: true })
          same(linesBelow(alone), linesOf(lower.root), `${said}, alone`)
          const both = await held.stack(`both-${seed}`, layers, { readonly: true })
          same(linesBelow(both), linesOf(stacked(lower, upper)), `${said}, stacked`)
          for (const id of [`alone-${seed}`, `both-${seed}`]) await held.snapshotter.remove(id)
          for (const { diffId } of layers) await held.snapshotter.removeLayer(diffId)
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error
          throw new Error(said, { cause: error })
        }
      }
    }
  })
})
