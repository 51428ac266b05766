import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { describe, it } from 'mocha'
import { openMirror } from '../../../peer/mirror/server.ts'
import { ManualClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

type Parts = Parameters<typeof openMirror>[1]

/** For requests that get no further than the mirror's door. */
const parts = { clock: new ManualClock(), log: silentLog(), scheduler: { connected: false } } as unknown as Parts

function options(listen: string) {
  return { listen, upstreams: {}, push: 'refuse', catalog: false, staleMs: 0, supernodeMs: 900 } as const
}

describe('openMirror', () => {
  it('names the port that another program has, and how to take another', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    try {
      const { port } = other.address() as AddressInfo
      const opening = openMirror(options(`127.0.0.1:${port}`), parts)
      const error = await failsWith('HOST_UNABLE', opening, new RegExp(`another program has port ${port}$`))
      assert.match(error.way ?? '', /--mirror IP:PORT takes another port/)
      assert.match(error.way ?? '', new RegExp(`ss -ltnp 'sport = :${port}'`))
    } finally {
      other.close()
    }
  })

  it('tells a client off that does not finish its request, and serves the next', async () => {
    await using mirror = await openMirror({ ...options('127.0.0.1:0'), headersMs: 60 }, parts)
    const [host = '', port = ''] = mirror.address.split(':')
    for (let client = 0; client < 2; client++) {
      const socket = connect(Number(port), host, () => socket.write('GET /v2/ HTTP/1.1\r\nhost: '))
      let said = ''
      socket.setEncoding('utf8').on('data', (text: string) => {
        said += text
      })
      await once(socket, 'close')
      assert.match(said, /^HTTP\/1\.1 408 /)
      assert.match(said, /"errors":\[/)
    }
    assert.equal(mirror.status().failures, 2)
  })
})
