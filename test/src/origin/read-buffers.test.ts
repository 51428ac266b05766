import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, it } from 'mocha'
import { ReadBuffers } from '../../../src/origin/read-buffers.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'

const BYTES = 3 * 1024 * 1024 + 5

/** Reads what a server sends, chunk by chunk. */
async function readAll(buffers: ReadBuffers, body: Uint8Array, each: (chunk: Uint8Array) => void): Promise<void> {
  const server = createServer((socket) => socket.end(body)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket: Socket = connect({ host: '127.0.0.1', port, onread: buffers.onread })
  socket.on('data', each)
  await once(socket, 'end')
  socket.destroy()
  server.close()
  await once(server, 'close')
}

describe('ReadBuffers', () => {
  it('brings every byte, and leaves alone what its reader still has', async () => {
    const buffers = new ReadBuffers()
    const body = randomBody(1, BYTES)
    const kept: Uint8Array[] = []
    await readAll(buffers, body, (chunk) => void kept.push(chunk))
    // another read must not go where the first one's bytes are
    await readAll(buffers, randomBody(2, BYTES), () => {})
    assert.ok(Buffer.concat(kept).equals(body))
  })

  it('reads into the same memory again once all of a buffer is done with', async () => {
    const buffers = new ReadBuffers()
    const seen = new Set<ArrayBufferLike>()
    const parts: Buffer[] = []
    const body = randomBody(3, BYTES)
    await readAll(buffers, body, (chunk) => {
      seen.add(chunk.buffer)
      parts.push(Buffer.from(chunk))
      buffers.done(chunk)
    })
    assert.ok(Buffer.concat(parts).equals(body))
    assert.ok(seen.size <= 3, `${seen.size} buffers for one reader that is done with each chunk at once`)
  })

  it('uses no buffer again of which a part is not done with', async () => {
    const buffers = new ReadBuffers()
    const body = randomBody(4, BYTES)
    const firsts: { chunk: Uint8Array; copy: Buffer }[] = []
    let number = 0
    await readAll(buffers, body, (chunk) => {
      if (number++ % 4 === 0) firsts.push({ chunk, copy: Buffer.from(chunk) })
      else buffers.done(chunk)
    })
    for (const { chunk, copy } of firsts) assert.ok(copy.equals(chunk))
  })

  it('takes no notice of memory that is not its own', async () => {
    const buffers = new ReadBuffers()
    const foreign = Buffer.alloc(BYTES)
    buffers.done(foreign)
    await readAll(buffers, randomBody(5, BYTES), () => {})
    assert.ok(foreign.equals(Buffer.alloc(BYTES)), 'nothing was read into it')
  })
})
