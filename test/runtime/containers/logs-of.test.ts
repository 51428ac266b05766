import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import type { Entry } from '../../../runtime/containers/entry.ts'
import { logsOf } from '../../../runtime/containers/logs-of.ts'
import { bundleAt } from '../../../runtime/shim/bundle.ts'
import type { ExitReply } from '../../../src/api/containers-api.ts'
import { Outcome } from '../../../src/core/outcome.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const never = new AbortController().signal

describe('logsOf', () => {
  it('leaves nothing at a container that goes on when a client stops following', async () => {
    await using dir = await aDir()
    const bundle = bundleAt(dir.path)
    await writeFile(bundle.log, '2026-11-26T15:18:20.781984832+00:00 stdout F hello\n')
    const ended = new Outcome<ExitReply>()
    const entry = { name: 'one', bundle, ended, record: { status: 'running', request: {} } } as unknown as Entry
    for (let client = 0; client < 3; client++) {
      for await (const { bytes } of logsOf(entry, { follow: true }, { signal: never })) {
        assert.equal(Buffer.from(bytes).toString(), 'hello\n')
        assert.equal(ended.waits, 1)
        break
      }
    }
    assert.equal(ended.waits, 0)
    const followed = logsOf(entry, { follow: true }, { signal: never })
    await followed.next()
    ended.resolve({ exitCode: 0 })
    assert.equal((await followed.next()).done, true)
  })
})
