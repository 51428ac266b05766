import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { listenUnix } from '../../../src/core/listen-unix.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const OPTIONS = { who: 'agent', flag: '--socket' }

/** A server at `path`, and what others could see of it at the moment when it began to listen. */
async function aServer(path: string, seen: (place: string) => void = () => {}) {
  const server = createServer((socket) => socket.on('error', () => {}).end('here')) // who only looks leaves at once
  const name = await listenUnix(
    path,
    async (place) => {
      server.listen(place)
      await once(server, 'listening')
      seen(place)
    },
    OPTIONS,
  )
  return {
    name,
    async [Symbol.asyncDispose]() {
      await name[Symbol.asyncDispose]()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function said(path: string): Promise<string> {
  let text = ''
  for await (const chunk of connect(path)) text += chunk
  return text
}

describe('listenUnix', () => {
  it('listens where nobody else may look before the socket has its mode, and leaves nothing of that', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'run', 'agent.sock')
    let mode: number | undefined
    {
      await using server = await aServer(path, (place) => {
        assert.ok(!existsSync(path))
        mode = statSync(dirname(place)).mode & 0o777
        assert.equal(dirname(dirname(place)), dirname(path), 'the same file system, which this user may write to')
      })
      assert.ok(server)
      assert.equal(mode, 0o700)
      assert.equal(statSync(path).mode & 0o777, 0o660)
      assert.equal(await said(path), 'here')
      assert.deepEqual(readdirSync(dirname(path)), ['agent.sock'])
    }
    assert.deepEqual(readdirSync(dirname(path)), [])
  })

  it('takes over a socket that nobody serves, never one that somebody does', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'agent.sock')
    writeFileSync(path, 'left behind')
    await using server = await aServer(path)
    assert.ok(server)
    await failsWith('CONFLICT', aServer(path), /another agent listens on/)
    assert.equal(await said(path), 'here')
    assert.deepEqual(readdirSync(dir.path), ['agent.sock'])
  })

  it("leaves a successor's socket when it ends", async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'agent.sock')
    const first = await aServer(path)
    await first.name[Symbol.asyncDispose]()
    await using second = await aServer(path)
    await first[Symbol.asyncDispose]()
    assert.ok(second)
    assert.equal(await said(path), 'here')
  })

  it('says so when it cannot', async () => {
    await using dir = await aDir()
    writeFileSync(join(dir.path, 'file'), '')
    await failsWith('HOST_UNABLE', aServer(join(dir.path, 'x'.repeat(200), 'agent.sock')), /cannot listen on .*EINVAL/)
    const refuse = listenUnix(join(dir.path, 'agent.sock'), () => Promise.reject(new Error('no')), OPTIONS)
    await failsWith('HOST_UNABLE', refuse)
    assert.deepEqual(
      readdirSync(dir.path).filter((name) => name.startsWith('.')),
      [],
    )
  })
})
