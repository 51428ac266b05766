import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'
import { aDir } from '../fixtures/host/a-dir.ts'
import { needs } from '../fixtures/host/needs.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const NOBODY = 65534
const SUPERNODE = '/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGRUd5oDF1jS4mq1zUvWPDHmkzKGpZvjd7CJnnmaxmkxx'

/** What a darner command says to nobody, who has no rights. */
function asNobody(...args: string[]) {
  const done = spawnSync(process.execPath, [MAIN, ...args], {
    uid: NOBODY,
    gid: NOBODY,
    env: { PATH: process.env.PATH, HOME: '/nonexistent' },
    encoding: 'utf8',
    timeout: 60_000,
  })
  return {
    code: done.status,
    stderr: done.stderr.split('\n').find((line) => line.startsWith('darner:')) ?? done.stderr,
  }
}

describe('a daemon that another user than root starts', function () {
  this.timeout(120_000)
  before(function () {
    needs(this, { root: true })
  })

  it('is told of root, and of --no-engine', () => {
    const { code, stderr } = asNobody('agent', '--supernode', SUPERNODE)
    assert.equal(code, 1)
    assert.match(stderr, /^darner: an agent that runs containers must run as root, not as user 65534; .*--no-engine/)
  })

  it("is told that root's data directory is not its own", async () => {
    await using dir = await aDir()
    await chmod(dir.path, 0o755)
    const data = join(dir.path, 'of-root')
    await mkdir(data, { mode: 0o700 })
    for (const args of [['agent', '--no-engine', '--supernode', SUPERNODE], ['supernode']]) {
      const { code, stderr } = asNobody(...args, '--data', data)
      assert.equal(code, 1)
      assert.match(
        stderr,
        /^darner: this user may not use the data directory .*: EACCES; run this as root, or .*--data/,
      )
    }
  })

  it('is told to name another socket where it may not make one', async () => {
    await using dir = await aDir()
    await chmod(dir.path, 0o755)
    const data = join(dir.path, 'own')
    await mkdir(data)
    await chown(data, NOBODY, NOBODY)
    const listening = ['--p2p-listen', '127.0.0.1:0', '--lane-listen', '127.0.0.1:0', '--mirror', 'off']
    const socket = join(dir.path, 'run', 'agent.sock')
    const args = ['agent', '--no-engine', '--supernode', SUPERNODE, '--data', data, '--socket', socket, ...listening]
    const { code, stderr } = asNobody(...args)
    assert.equal(code, 1)
    assert.match(stderr, /^darner: cannot listen on .*agent\.sock: EACCES; run this as root, or .*--socket/)
  })
})
