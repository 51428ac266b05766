import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { connect, createSecureContext } from 'node:tls'
import { AcceptedSocket } from '../../../../src/exchange/transport/accepted-socket.ts'
import { makeLaneCertificate } from '../../../../src/exchange/transport/lane-identity.ts'
import { newIdentity } from '../../../../src/protocol/identity.ts'

const SENT_BYTES = 4 * 1024 * 1024
/** What one read may bring, with what it leaves of a record. */
const READ_BYTES = 64 * 1024 + 16 * 1024

describe('AcceptedSocket', () => {
  it('gives what arrives to its taker, stops when told to, goes on at resume, and tells the end', async () => {
    const { certPem, keyPem } = await makeLaneCertificate((await newIdentity()).privateKey)
    const secureContext = createSecureContext({ cert: certPem, key: keyPem })
    await using server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = connect({ ...(server.address() as AddressInfo), host: '127.0.0.1', rejectUnauthorized: false })
    client.end(Buffer.alloc(SENT_BYTES, 1))
    const [raw] = (await once(server, 'connection')) as [Socket]
    const socket = new AcceptedSocket(raw, { isServer: true, secureContext })
    const came = { bytes: 0, sincePause: 0, pauses: 0 }
    let resuming: Promise<void> | undefined
    const resume = async () => {
      for (let turn = 0; turn < 5; turn++) await setImmediate()
      assert.ok(came.sincePause <= READ_BYTES, `${came.sincePause} bytes came though it was paused`)
      came.sincePause = 0
      resuming = undefined
      socket.resume()
    }
    socket.onBytes((chunk) => {
      came.bytes += chunk.byteLength
      if (resuming !== undefined) came.sincePause += chunk.byteLength
      else if (came.bytes > came.pauses * (SENT_BYTES / 8)) {
        came.pauses++
        resuming = resume()
      }
      return resuming === undefined
    })
    await once(socket, 'end')
    assert.equal(came.bytes, SENT_BYTES)
    assert.equal(came.pauses, 8)
    socket.destroy()
    client.destroy()
  })
})
