import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runFolder } from '../../../deploy/vm/run-folder.ts'

describe('the folder of a boot', () => {
  it('is its own; what killed commands left is removed, what another one uses is not', async () => {
    const gone = spawn('true')
    await once(gone, 'exit')
    const left = join(tmpdir(), `darner-vm-${gone.pid}-abcDEF`)
    const used = join(tmpdir(), `darner-vm-${process.ppid}-abcDEF`)
    const folders = [left, used]
    try {
      for (const path of folders) await mkdir(path)
      folders.push(await runFolder(), await runFolder())
      assert.deepEqual(folders.map(existsSync), [false, true, true, true])
      assert.notEqual(folders[2], folders[3])
    } finally {
      for (const path of folders) await rm(path, { recursive: true, force: true })
    }
  })
})
