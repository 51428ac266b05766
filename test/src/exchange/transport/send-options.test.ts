import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import koffi from 'koffi'
import { describe, it } from 'mocha'
import { SendOptions } from '../../../../src/exchange/transport/send-options.ts'
import { descriptorOf } from '../../../../src/exchange/transport/tcp-round-trip.ts'

const IPPROTO_TCP = 6
const TCP_CONGESTION = 13
const TCP_NOTSENT_LOWAT = 25

const getsockopt = koffi
  .load(null)
  .func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)')

function option(fd: number, name: number): Buffer {
  const value = Buffer.alloc(16)
  const length = [value.byteLength]
  assert.equal(getsockopt(fd, IPPROTO_TCP, name, value, length), 0)
  return value.subarray(0, length[0])
}

/** A connection on loopback, by its sending end. */
async function aConnection() {
  const server = createServer((socket) => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const socket: Socket = connect(address.port, '127.0.0.1')
  await once(socket, 'connect')
  const fd = descriptorOf(socket)
  assert.ok(fd !== undefined)
  return {
    fd,
    [Symbol.asyncDispose]: async () => {
      socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

describe('SendOptions', () => {
  it('lets little wait in the kernel unsent at first, more where bytes leave fast, and less again', async () => {
    await using connection = await aConnection()
    const { fd } = connection
    const sending = new SendOptions(fd)
    const bound = () => option(fd, TCP_NOTSENT_LOWAT).readInt32LE(0)
    assert.equal(bound(), 16 * 1024)
    for (let write = 0; write < 20; write++) sending.wrote(256 * 1024, 2)
    assert.equal(bound(), 1024 * 1024)
    for (let write = 0; write < 40; write++) sending.wrote(64 * 1024, 200)
    const least = bound()
    assert.ok(least <= 32 * 1024, `${least}`)
    for (let write = 0; write < 20; write++) sending.wrote(100, 0.01)
    assert.equal(bound(), least, 'a short write tells nothing')
  })

  it('chooses cubic where the kernel allows it, and leaves the connection as it is where not', async () => {
    await using connection = await aConnection()
    const { fd } = connection
    const before = option(fd, TCP_CONGESTION).toString('latin1').replace(/\0.*$/s, '')
    new SendOptions(fd)
    const after = option(fd, TCP_CONGESTION).toString('latin1').replace(/\0.*$/s, '')
    assert.ok(after === 'cubic' || after === before, after)
  })
})
