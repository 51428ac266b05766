import assert from 'node:assert/strict'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'mocha'
import { systemClock } from '../../../src/core/clock.ts'
import { Digester, digestOf } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { createOriginClient } from '../../../src/origin/registry-client.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'

/** A server of HTTP/1.0: one answer, then it closes, however slowly the other side reads. */
async function aClosingServer(body: Uint8Array, head: string): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(Buffer.concat([Buffer.from(head), body])))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/blob`,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

describe('an origin that closes its connection while the reader is behind', () => {
  const body = randomBody(5, 3 * 1024 * 1024)
  for (const [name, head] of [
    ['with a length', `HTTP/1.0 200 OK\r\ncontent-length: ${body.byteLength}\r\n\r\n`],
    ['without one', 'HTTP/1.0 200 OK\r\n\r\n'],
    [
      'by HTTP/1.1 and Connection: close',
      `HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${body.byteLength}\r\n\r\n`,
    ],
  ] as const) {
    it(`is read to its end, ${name}`, async () => {
      await using server = await aClosingServer(body, head)
      await using client = createOriginClient({}, { log: silentLog(), clock: systemClock })
      await using read = await client.read(
        { origin: { kind: 'url', url: server.url } },
        { signal: AbortSignal.timeout(20_000) },
      )
      const digester = new Digester()
      for await (const chunk of read.stream) {
        digester.update(chunk)
        // behind: many turns of the event loop for each chunk
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      }
      assert.equal(digester.finish(), digestOf(body))
    })
  }
})
