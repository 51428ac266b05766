/** The peer's routes on the agent's unix socket: fetch a blob, and what the peer is doing. */
import { stat } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { asDarnerError } from '../src/base/errors.ts'
import { abortable } from '../src/base/signals.ts'
import { parseDigest } from '../src/oci/digest.ts'
import { pieceRange } from '../src/task/task.ts'
import {
  dataHead,
  GET_CHUNK_BYTES,
  GET_CONTENT_TYPE,
  GET_FILE_HEADER,
  GET_FILE_ID_HEADER,
  type GetFailure,
  jsonFrame,
  landedFrame,
} from '../src/wire/get-frames.ts'
import { GetRequest } from '../src/wire/get-stream.ts'
import { registerCareRoutes } from './care-routes.ts'
import type { OpenContent } from './engine/open-content.ts'
import type { Peer } from './peer.ts'

const PROGRESS_MS = 200

/** Registers the routes; errors are mapped by the app that they are registered on. */
export function registerPeerRoutes(app: FastifyInstance, peer: Peer): void {
  const typed = app.withTypeProvider<TypeBoxTypeProvider>()
  registerCareRoutes(app, peer)
  typed.get('/v1/peer', async () => await peer.status())
  typed.post('/v1/get', { schema: { body: GetRequest } }, async (request, reply) => {
    const { origin, digest, credential, priority, order, byFile } = request.body
    const gone = new AbortController()
    request.raw.socket.once('close', () => gone.abort(new DOMException('the client left', 'AbortError')))
    await using content = await peer.engine.openStored(
      {
        origin,
        priority,
        ...(digest === undefined ? {} : { digest: parseDigest(digest) }),
        ...(credential === undefined ? {} : { credential }),
      },
      { signal: gone.signal },
    )
    reply.hijack()
    await answer(reply.raw, content, byFile === true && order === 'landed' ? 'file' : order, gone.signal)
    return reply
  })
}

/** Streams one blob. Whatever fails after the first byte ends the body with an error frame. */
async function answer(
  response: ServerResponse,
  content: OpenContent,
  way: 'landed' | 'ordered' | 'file',
  signal: AbortSignal,
): Promise<void> {
  const file = way === 'file' ? await fileOf(content) : undefined
  response.writeHead(200, { 'content-type': GET_CONTENT_TYPE, 'darner-bytes': String(content.bytes), ...file })
  const progress = () => void response.write(jsonFrame('progress', content.progress()))
  const timer = setInterval(progress, PROGRESS_MS)
  try {
    progress()
    const out = new Out(response, content, signal)
    await (way === 'ordered' ? out.ordered() : out.landed(file !== undefined))
    const summary = await content.whole({ signal })
    response.end(jsonFrame('summary', { ...summary }))
  } catch (error) {
    const known = asDarnerError(error, 'get')
    const failure: GetFailure = {
      code: known.code,
      message: known.message,
      ...(known.way === undefined ? {} : { way: known.way }),
    }
    if (!signal.aborted) response.end(jsonFrame('error', failure))
  } finally {
    clearInterval(timer)
  }
}

/** Headers that name the store's file; undefined when it is just being renamed, and the bytes are sent instead. */
async function fileOf(content: OpenContent): Promise<Record<string, string> | undefined> {
  const path = content.path()
  const seen = await stat(path).catch(() => undefined)
  return seen && { [GET_FILE_HEADER]: encodeURIComponent(path), [GET_FILE_ID_HEADER]: `${seen.dev}:${seen.ino}` }
}

class Out {
  readonly #response: ServerResponse
  readonly #content: OpenContent
  readonly #signal: AbortSignal

  constructor(response: ServerResponse, content: OpenContent, signal: AbortSignal) {
    this.#response = response
    this.#content = content
    this.#signal = signal
  }

  async ordered(): Promise<void> {
    let offset = 0
    for await (const bytes of this.#content.read({ signal: this.#signal })) {
      await this.#data(offset, bytes)
      offset += bytes.byteLength
    }
  }

  /** Pieces as they land: what is here first, then each as it comes. `byFile` tells where they are and keeps the bytes. */
  async landed(byFile: boolean): Promise<void> {
    const { stored } = this.#content
    const { task } = stored
    const runs: [from: number, count: number][] = []
    let wake = () => {}
    const stop = stored.onPieces((from: number, count: number) => {
      runs.push([from, count])
      wake()
    })
    runs.push(...stored.have.ranges())
    try {
      for (let sent = 0; sent < stored.have.size; ) {
        const run = runs.shift()
        if (run === undefined) {
          const landed = new Promise<void>((resolve) => {
            wake = resolve
          })
          await abortable(Promise.race([landed, this.#content.failed]), this.#signal)
          continue
        }
        sent += run[1]
        const { from } = pieceRange(task, run[0])
        const { to } = pieceRange(task, run[0] + run[1] - 1)
        if (byFile) this.#response.write(landedFrame(from, to - from))
        else await this.#copy(from, to)
      }
    } finally {
      stop()
    }
  }

  async #copy(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += GET_CHUNK_BYTES) {
      const bytes = Buffer.allocUnsafeSlow(Math.min(GET_CHUNK_BYTES, to - at))
      await this.#content.stored.read(at, bytes)
      await this.#data(at, bytes)
    }
  }

  async #data(offset: number, bytes: Uint8Array): Promise<void> {
    this.#response.write(dataHead(offset, bytes.byteLength))
    if (this.#response.write(bytes)) return
    await abortable(new Promise<void>((resolve) => this.#response.once('drain', resolve)), this.#signal)
  }
}
