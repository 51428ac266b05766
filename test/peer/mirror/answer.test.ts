import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { describe, it } from 'mocha'
import { type Outlet, Sending, SLOW_CLIENT_MS, send } from '../../../peer/mirror/answer.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

/** A client that takes bytes when it is told to. */
function aClient() {
  const clock = new ManualClock()
  const gone = new AbortController()
  const written: ((error?: Error) => void)[] = []
  const response = Object.assign(new EventEmitter(), {
    write: (_bytes: Uint8Array, done?: (error?: Error) => void) => {
      if (done !== undefined) written.push(done)
      return false
    },
    destroy: () => {},
  })
  const outlet: Outlet = { response: response as unknown as ServerResponse, clock, signal: gone.signal }
  return { outlet, clock, gone, written, response }
}

const BYTES = new Uint8Array(8)

function through(outlet: Outlet, bytes: Uint8Array): Promise<void> {
  return new Sending(outlet).through(bytes)
}

describe('sending to a client', () => {
  for (const [name, write] of [
    ['send', send],
    ['Sending', through],
  ] as const) {
    it(`${name} lets a client go that takes no byte for a minute, and not before`, async () => {
      const { outlet, clock } = aClient()
      let over = false
      const sending = write(outlet, BYTES).finally(() => {
        over = true
      })
      sending.catch(() => {})
      clock.advance(SLOW_CLIENT_MS - 1)
      await new Promise(setImmediate)
      assert.equal(over, false)
      clock.advance(1)
      await failsWith('TIMED_OUT', sending)
    })

    it(`${name} ends at once when the client is gone`, async () => {
      const { outlet, gone } = aClient()
      const sending = write(outlet, BYTES)
      gone.abort(new Error('it left'))
      await assert.rejects(sending, /it left/)
    })
  }

  it('gives every chunk a minute of its own', async () => {
    const { outlet, clock, written } = aClient()
    using body = new Sending(outlet)
    for (let chunk = 0; chunk < 5; chunk++) {
      const sending = body.through(BYTES)
      clock.advance(SLOW_CLIENT_MS - 1)
      written.pop()?.()
      await sending
    }
  })

  it('gives memory back only when no byte of it can leave any more', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    const requested = once(server, 'request')
    await once(server, 'listening')
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
    client.on('error', () => {}).write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    try {
      const [, response] = (await requested) as [unknown, ServerResponse]
      const memory = Buffer.alloc(32 << 20, 'a')
      response.writeHead(200, { 'content-length': String(memory.byteLength) })
      const clock = new ManualClock()
      const sending = through({ response, clock, signal: new AbortController().signal }, memory)
      clock.advance(SLOW_CLIENT_MS)
      await failsWith('TIMED_OUT', sending)
      memory.fill('b') // it is used for something else
      let others = false
      client.on('data', (bytes) => {
        others ||= bytes.subarray(-1000).includes('b')
        if (others) client.destroy()
      })
      await once(client, 'close')
      assert.equal(others, false)
    } finally {
      client.destroy()
      server.closeAllConnections()
      server.close()
    }
  })

  it('leaves nothing on the response that drained', async () => {
    const { outlet, response } = aClient()
    const sending = send(outlet, BYTES)
    response.emit('drain')
    await sending
    assert.equal(response.listenerCount('drain'), 0)
  })
})
