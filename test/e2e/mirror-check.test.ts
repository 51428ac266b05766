import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/a-daemon.ts'
import { aDir } from '../fixtures/a-dir.ts'
import { aRegistry } from '../fixtures/a-registry.ts'
import { anImage, pushIndex } from '../fixtures/an-image.ts'

describe('darner mirror check', () => {
  it('proves each step to a pulled blob, and names the step that fails', async () => {
    await using dir = await aDir()
    await using registry = await aRegistry()
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch
    await pushIndex(registry, 'team/app', 'v1', [anImage({ platform: { os: 'linux', architecture } })])
    await using supernode = await aSupernodeProcess(dir.path)
    const nobody = await runDarner(['mirror', 'check', '--socket', join(dir.path, 'none.sock')])
    assert.equal(nobody.code, 1)
    assert.match(nobody.stdout, /^FAILED the agent runs and its mirror listens: no agent listens/)
    await using agent = await anAgentProcess(dir.path, 'agent', supernode.line, [
      ...['--mirror', '127.0.0.1:0'],
      ...['--upstream', `reg.test=${registry.url}`, '--upstream', `${registry.host}=${registry.url}`],
    ])
    const check = (...args: string[]) => runDarner(['mirror', 'check', ...args, '--socket', agent.socket])
    for (const registryName of ['reg.test', registry.host]) {
      const good = await check(`${registryName}/team/app:v1`)
      assert.equal(good.code, 0, good.stdout + good.stderr)
      assert.deepEqual(
        good.stdout.split('\n').map((line) => line.slice(0, 6)),
        ['ok    ', 'ok    ', 'ok    ', 'ok    ', 'ok    ', 'ok    ', ''],
      )
    }
    const missing = await check('reg.test/team/app:none', '--json')
    assert.equal(missing.code, 1)
    const { ok, steps } = JSON.parse(missing.stdout) as { ok: boolean; steps: { step: string; ok: boolean }[] }
    assert.equal(ok, false)
    assert.deepEqual(steps.at(-1)?.step, 'it resolves reg.test/team/app:none')
    const stranger = await check('other.test/team/app:v1')
    assert.equal(stranger.code, 1)
    assert.match(stranger.stdout, /FAILED other\.test is an upstream of the mirror: the mirror reaches reg\.test, /)
    assert.match(stranger.stdout, /add --upstream other\.test=URL to the agent/)
    const off = await anAgentProcess(dir.path, 'other', supernode.line)
    await using _ = off
    const without = await runDarner(['mirror', 'check', '--socket', off.socket])
    assert.match(without.stdout, /^FAILED the agent runs and its mirror listens: the mirror is off/)
  })
})
