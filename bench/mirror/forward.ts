/**
 * What any mirror on Node costs at least: `node forward.ts REGISTRY_URL` hands on requests and answers, and nothing else. With
 * `store FOLDER` it also hashes what passes, whole and in pieces, and writes it, as a mirror has to that shares what it reads.
 * Prints `HOST:PORT`.
 */
import { createHash, randomUUID } from 'node:crypto'
import { open } from 'node:fs/promises'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pipeline, Transform } from 'node:stream'

const PIECE_BYTES = 256 * 1024
const [upstream = '', mode = '', folder = ''] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true })

async function keep(answer: IncomingMessage, response: ServerResponse): Promise<void> {
  const file = await open(join(folder, randomUUID()), 'wx')
  const whole = createHash('sha256')
  let piece = createHash('sha256')
  let body = Buffer.allocUnsafeSlow(PIECE_BYTES)
  let filled = 0
  let at = 0
  const writing = new Set<Promise<unknown>>()
  const flush = () => {
    piece.digest()
    piece = createHash('sha256')
    const write = file.write(body, 0, filled, at).finally(() => writing.delete(write))
    writing.add(write)
    at += filled
    filled = 0
    body = Buffer.allocUnsafeSlow(PIECE_BYTES)
  }
  const through = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      whole.update(chunk)
      for (let from = 0; from < chunk.byteLength; ) {
        const copied = chunk.copy(body, filled, from)
        piece.update(chunk.subarray(from, from + copied))
        filled += copied
        from += copied
        if (filled === PIECE_BYTES) flush()
      }
      done(null, chunk)
    },
  })
  pipeline(answer, through, response, async () => {
    flush()
    whole.digest()
    await Promise.all(writing)
    await file.close()
  })
}

const server = createServer((ask, response) => {
  const url = new URL(ask.url ?? '', upstream)
  const { host: _host, ...headers } = ask.headers
  request(url, { method: ask.method, headers, agent }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    const blob = ask.method === 'GET' && answer.statusCode === 200 && url.pathname.includes('/blobs/')
    if (mode === 'store' && blob) void keep(answer, response)
    else pipeline(answer, response, () => {})
  })
    .on('error', () => response.destroy())
    .end()
})
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${(server.address() as AddressInfo).port}`))
