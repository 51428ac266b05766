import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { openDockerApi } from '../../../runtime/engine-api/server.ts'
import { silentLog } from '../../../src/core/log.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

type Parts = Parameters<typeof openDockerApi>[0]

/** Nothing is asked that needs more. */
const PARTS = {
  ...{ log: silentLog(), about: { version: '0' }, signal: new AbortController().signal },
  runtime: { containers: {}, execs: {} },
} as unknown as Parts

describe('the docker socket', () => {
  it('lets a client go that leaves before it has asked anything, or half way', async () => {
    await using dir = await aDir()
    await using api = await openDockerApi(PARTS)
    const path = join(dir.path, 'docker.sock')
    await using _listening = await api.listen(path)
    for (const said of ['', 'PO', 'POST /exec/x/start HTTP/1.1\r\nHost: d']) {
      const client = connect(path)
      client.resume().end(said)
      await once(client, 'close', { signal: AbortSignal.timeout(10_000) })
    }
    const client = connect(path)
    client.end('GET /nowhere HTTP/1.1\r\nHost: d\r\n\r\n')
    const [answer] = (await once(client, 'data')) as [Buffer]
    assert.match(answer.toString(), /^HTTP\/1\.1 404 /)
    client.destroy()
  })

  it('has nothing in its build cache to prune, which ends `docker system prune` well', async () => {
    await using dir = await aDir()
    await using api = await openDockerApi(PARTS)
    const path = join(dir.path, 'docker.sock')
    await using _listening = await api.listen(path)
    const client = connect(path)
    client.write('POST /v1.43/build/prune HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
    let answer = ''
    for await (const bytes of client) answer += bytes
    assert.match(answer, /^HTTP\/1\.1 200 /)
    assert.deepEqual(JSON.parse(answer.split('\r\n\r\n')[1] ?? ''), { CachesDeleted: null, SpaceReclaimed: 0 })
  })
})
