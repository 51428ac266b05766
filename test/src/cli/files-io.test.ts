import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import type { CommandContext } from '../../../src/cli/context.ts'
import { saveTo } from '../../../src/cli/files-io.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

describe('saveTo', () => {
  it('blames the agent for an answer that breaks off, the file for one that cannot be written, and leaves no part', async () => {
    await using dir = await aDir()
    const { signal } = new AbortController()
    const context = { stdout: new PassThrough(), signal } as unknown as CommandContext
    const broken = async () =>
      Readable.from(
        (async function* () {
          yield Buffer.from('the beginning')
          throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' })
        })(),
      )
    const archive = join(dir.path, 'a.tar')
    await failsWith('AGENT_UNREACHABLE', saveTo(archive, context, broken), /the agent broke off the archive/)
    await failsWith('AGENT_UNREACHABLE', saveTo('-', context, broken))
    const whole = async () => Readable.from([Buffer.from('all')])
    await failsWith('HOST_UNABLE', saveTo(join(dir.path, 'no/a.tar'), context, whole), /cannot write .*: ENOENT/)
    assert.deepEqual(readdirSync(dir.path), [])
  })
})
