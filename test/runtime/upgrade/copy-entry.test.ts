import assert from 'node:assert/strict'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { AT_FDCWD, mknodAt, S_IF } from '../../../runtime/linux/syscalls.ts'
import { copyLeaf } from '../../../runtime/upgrade/copy-entry.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const { signal } = new AbortController()

/** A tree with one file, and a file outside it of the same name. */
async function aTree() {
  const dir = await aDir()
  const at = (name: string) => join(dir.path, name)
  for (const name of ['tree/folder', 'outside']) mkdirSync(at(name), { recursive: true })
  writeFileSync(at('tree/folder/file'), "the container's", { mode: 0o640 })
  writeFileSync(at('outside/file'), "the host's")
  const facts = () => lstatSync(at('tree/folder/file'), { bigint: true })
  const copied = (looked = facts()) =>
    copyLeaf({ tree: at('tree'), path: Buffer.from('folder/file') }, Buffer.from(at('copy')), looked, { signal })
  return { at, facts, copied, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() }
}

describe('copying a file of a container that runs', () => {
  it('brings its content and mode over, holes too', async () => {
    await using tree = await aTree()
    for (const bytes of [15, 1 << 20]) {
      truncateSync(tree.at('tree/folder/file'), bytes)
      assert.equal(await tree.copied(), true)
      assert.deepEqual(readFileSync(tree.at('copy')), readFileSync(tree.at('tree/folder/file')))
      assert.equal(lstatSync(tree.at('copy')).mode & 0o7777, 0o640)
    }
    assert.ok(lstatSync(tree.at('copy')).blocks < 1024, 'it has a hole')
  })

  it('takes nothing from elsewhere when a folder above it has become a link', async () => {
    await using tree = await aTree()
    const looked = tree.facts()
    renameSync(tree.at('tree/folder'), tree.at('tree/away'))
    symlinkSync(tree.at('outside'), tree.at('tree/folder'))
    assert.equal(await tree.copied(looked), false)
    assert.ok(!existsSync(tree.at('copy')))
  })

  it('waits for nobody when it has become a pipe', async () => {
    await using tree = await aTree()
    const looked = tree.facts()
    renameSync(tree.at('tree/folder/file'), tree.at('tree/away'))
    mknodAt(AT_FDCWD, tree.at('tree/folder/file'), S_IF.FIFO | 0o600, 0, 0)
    assert.equal(await tree.copied(looked), false)
    assert.ok(!existsSync(tree.at('copy')))
  })
})
