import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { aDir } from '../fixtures/host/a-dir.ts'
import { aSupernodeProcess } from '../fixtures/swarm/a-daemon.ts'
import { until } from '../fixtures/until.ts'

describe('a readable log', function () {
  this.timeout(60_000)

  it('has no colours where it goes to a pipe', async () => {
    await using dir = await aDir()
    await using supernode = await aSupernodeProcess(dir.path, ['--open', '--log-format', 'pretty'])
    await until(() => /INFO.*\n/.test(supernode.log()))
    assert.ok(!supernode.log().includes('\u001b'), JSON.stringify(supernode.log()))
  })
})
