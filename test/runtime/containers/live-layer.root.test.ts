import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { layerTar } from '../../../runtime/containers/layer-tar.ts'
import { changesIn, type FoundChange } from '../../../runtime/containers/overlay-changes.ts'
import { type StillTree, stillTree } from '../../../runtime/linux/foreign-tree.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const never = new AbortController().signal

/** A writable layer with a file in a folder and one beside it, an image without them, and a folder of the host's with a file of the same name. */
async function aLayer() {
  const dir = await aDir()
  const at = (name: string) => join(dir.path, name)
  for (const name of ['upper/folder', 'image', 'host']) mkdirSync(at(name), { recursive: true })
  writeFileSync(at('upper/folder/file'), 'of the container')
  writeFileSync(at('upper/other'), 'of the container too')
  writeFileSync(at('host/file'), 'a secret of the host')
  writeFileSync(at('host/more'), 'another')
  return {
    at,
    /** What a process of the container does at a bad moment. */
    swap() {
      renameSync(at('upper/folder'), at('upper/away'))
      symlinkSync(at('host'), at('upper/folder'))
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  }
}

async function tarOf(upper: StillTree, changes: readonly FoundChange[]): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const chunk of layerTar(upper, changes, never)) parts.push(chunk)
  return Buffer.concat(parts)
}

const listed = (tar: Buffer) =>
  execFileSync('tar', ['-tf', '-'], { input: tar })
    .toString()
    .split('\n')
    .filter((line) => line !== '')
const pathsOf = (changes: readonly FoundChange[]) => changes.map(({ path, kind }) => `${kind} ${path}`)

describe('the writable layer of a container that goes on', () => {
  before(function () {
    onStage(this, { programs: ['tar'] })
  })

  it('gives nothing of the host when a folder becomes a link between the walk and the reading', async () => {
    await using layer = await aLayer()
    using upper = stillTree(layer.at('upper'))
    const changes = await changesIn(upper, layer.at('image'))
    assert.deepEqual(pathsOf(changes), ['added /folder', 'added /folder/file', 'added /other'])
    layer.swap()
    const tar = await tarOf(upper, changes)
    assert.ok(!tar.includes('a secret of the host'))
    assert.deepEqual(listed(tar), ['folder', 'other'])
  })

  it('lists nothing of the host when a folder is a link by the time it is read', async () => {
    await using layer = await aLayer()
    layer.swap()
    using upper = stillTree(layer.at('upper'))
    assert.deepEqual(pathsOf(await changesIn(upper, layer.at('image'))), [
      'added /away',
      'added /away/file',
      'added /folder',
      'added /other',
    ])
    // nor is what the image has behind a link of its own taken for the container's folder
    symlinkSync(layer.at('host'), layer.at('image/away'))
    assert.deepEqual(pathsOf(await changesIn(upper, layer.at('image'))).slice(0, 2), [
      'modified /away',
      'added /away/file',
    ])
  })

  it('leaves out what was deleted between the walk and the reading', async () => {
    await using layer = await aLayer()
    using upper = stillTree(layer.at('upper'))
    const changes = await changesIn(upper, layer.at('image'))
    rmSync(layer.at('upper/folder'), { recursive: true })
    assert.deepEqual(listed(await tarOf(upper, changes)), ['other'])
  })

  it('keeps names that are no text', async () => {
    await using layer = await aLayer()
    const name = Buffer.from([0x6e, 0xff, 0x6f])
    writeFileSync(Buffer.concat([Buffer.from(layer.at('upper/folder/')), name]), 'body')
    using upper = stillTree(layer.at('upper'))
    const changes = await changesIn(upper, layer.at('image'))
    assert.deepEqual(pathsOf(changes).slice(2, 3), ['added /folder/n\ufffdo'])
    assert.ok((await tarOf(upper, changes)).includes(Buffer.concat([Buffer.from('folder/'), name, Buffer.from([0])])))
  })
})
