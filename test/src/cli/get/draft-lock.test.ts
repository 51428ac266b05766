import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readlink, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { takeDraft } from '../../../../src/cli/get/draft-lock.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'

const MODULE = new URL('../../../../src/cli/get/draft-lock.ts', import.meta.url).href

describe('takeDraft', () => {
  it('is had by one at a time, and again after its release', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'lock')
    const first = await takeDraft(path)
    assert.ok(first)
    assert.equal(await takeDraft(path), undefined)
    await first.release()
    assert.deepEqual(await readdir(dir.path), [])
    assert.ok(await takeDraft(path))
  })

  it('is taken over from a process that was killed, by one of many', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'lock')
    const script = `const { takeDraft } = await import(${JSON.stringify(MODULE)}); await takeDraft(${JSON.stringify(path)}); console.log('held'); setInterval(() => {}, 1000)`
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    await once(child.stdout, 'data')
    assert.equal(await takeDraft(path), undefined, 'its holder lives')
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    const all = await Promise.all(Array.from({ length: 5 }, () => takeDraft(path)))
    assert.equal(all.filter((one) => one !== undefined).length, 1)
    assert.deepEqual(await readdir(dir.path), ['lock'])
  })

  it('leaves alone what another machine may hold, also under the number of a process that ended', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'lock')
    await symlink('000000000000.4194304.1', path)
    assert.equal(await takeDraft(path), undefined)
    assert.equal(await readlink(path), '000000000000.4194304.1')
  })
})
