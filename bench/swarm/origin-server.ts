/**
 * The origin of the bed, a process of its own: serves the files of a folder over HTTP, counts what is read, and is BitTorrent's
 * tracker besides. `node origin-server.ts ADDRESS FOLDER` prints its base URL; each line on stdin is answered with the counters since the
 * line before, as JSON.
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream'
import { Tracker } from './torrent.ts'

export interface OriginCounters {
  readonly gets: number
  readonly heads: number
  readonly sentBytes: number
}

const [address = '127.0.0.1', folder = '.'] = process.argv.slice(2)
const tracker = new Tracker()
let counters = { gets: 0, heads: 0, sentBytes: 0 }

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, search } = new URL(request.url ?? '/', 'http://origin')
  if (pathname === '/announce') {
    response.end(tracker.announce(search, request.socket.remoteAddress ?? ''))
    return
  }
  const file = join(folder, basename(pathname))
  const { size } = await stat(file)
  const headers: Record<string, string> = {
    etag: `"${pathname}-${size}"`,
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
  }
  if (request.method === 'HEAD') {
    counters.heads++
    response.writeHead(200, { ...headers, 'content-length': size }).end()
    return
  }
  counters.gets++
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const from = Number(range?.[1] ?? 0)
  const to = Math.min(size - 1, range?.[2] ? Number(range[2]) : size - 1)
  if (range) headers['content-range'] = `bytes ${from}-${to}/${size}`
  response.writeHead(range ? 206 : 200, { ...headers, 'content-length': Math.max(0, to - from + 1) })
  if (size === 0) return void response.end()
  const source = createReadStream(file, { start: from, end: to, highWaterMark: 256 * 1024 })
  source.on('data', (chunk) => {
    counters.sentBytes += chunk.length
  })
  pipeline(source, response, () => {})
}

const server = createServer((request, response) => {
  serve(request, response).catch(() => response.writeHead(404).end())
})
server.listen(0, address, () => {
  const { port } = server.address() as AddressInfo
  console.log(`http://${address}:${port}`)
})
for await (const _line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(counters))
  counters = { gets: 0, heads: 0, sentBytes: 0 }
}
process.exit(0)
