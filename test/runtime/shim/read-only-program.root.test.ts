import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readOnlyProgram } from '../../../runtime/shim/read-only-program.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { programPath } from '../../fixtures/host/needs.ts'

const saying = (word: string) => `#!/bin/sh\necho ${word}\n`
const said = (path: string) => execFileSync(path).toString()

async function aProgram() {
  const dir = await aDir()
  const path = join(dir.path, 'program')
  writeFileSync(path, saying('one'), { mode: 0o755 })
  return { dir: dir.path, path, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() }
}

describe('a program that is started read-only', () => {
  before(function () {
    onStage(this)
  })

  it('can be started by every process, and written to by none', async () => {
    await using program = await aProgram()
    using shown = readOnlyProgram(program.path)
    assert.notEqual(shown.path, program.path)
    assert.equal(said(shown.path), 'one\n')
    assert.equal(execFileSync('/bin/sh', ['-c', shown.path]).toString(), 'one\n')
    assert.throws(() => writeFileSync(shown.path, saying('evil')), { code: 'EROFS' })
    writeFileSync(program.path, saying('mended'))
    assert.equal(said(shown.path), 'mended\n')
  })

  it('is the one that has taken its place by then', async () => {
    await using program = await aProgram()
    using shown = readOnlyProgram(program.path)
    writeFileSync(`${program.path}.new`, saying('two'), { mode: 0o755 })
    renameSync(`${program.path}.new`, program.path)
    assert.equal(said(shown.path), 'two\n')
  })

  it('leaves no mount behind, nor has one that others see', async () => {
    await using program = await aProgram()
    const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8')
    const before = mounts()
    const shown = readOnlyProgram(program.path)
    assert.equal(mounts(), before)
    shown[Symbol.dispose]()
    assert.equal(mounts(), before)
    assert.throws(() => said(shown.path))
  })

  it('is started by its own path where it is a link, or not there yet', async () => {
    await using program = await aProgram()
    const link = join(program.dir, 'link')
    symlinkSync('program', link)
    for (const path of [link, join(program.dir, 'absent')]) {
      using shown = readOnlyProgram(path)
      assert.equal(shown.path, path)
    }
  })

  it('begins once when it is crun, which else puts itself into such a mount and begins anew', async function () {
    const crun = programPath('crun')
    if (crun === undefined) return onStage(this, { programs: ['crun'] })
    await using program = await aProgram()
    // a stage hides the runtimes by scripts (kept-bundles.ts)
    const { DARNER_REAL_RUNTIMES: real } = process.env
    copyFileSync(real === undefined ? crun : join(real, 'crun'), program.path)
    using shown = readOnlyProgram(program.path)
    // the loader tells its times for each beginning
    const { stderr } = spawnSync(shown.path, ['--version'], { env: { LD_DEBUG: 'statistics' } })
    assert.equal(stderr.toString().match(/total startup time/g)?.length, 1)
  })
})
