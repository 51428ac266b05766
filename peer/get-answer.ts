/** One answer to `get`: frames of a blob as its pieces land, in order, or by file, until it is whole or has failed. */
import { stat } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import {
  dataHead,
  GET_CHUNK_BYTES,
  GET_CONTENT_TYPE,
  GET_FILE_HEADER,
  GET_FILE_ID_HEADER,
  type GetFailure,
  jsonFrame,
} from '../src/api/get-frames.ts'
import type { GetRequest } from '../src/api/get-stream.ts'
import { Digester } from '../src/core/digest.ts'
import { asDarnerError } from '../src/core/errors.ts'
import { abortable } from '../src/core/signals.ts'
import { pieceRange } from '../src/core/task/task.ts'
import type { OpenContent } from './downloader/open-content.ts'
import { LandedWords } from './landed-words.ts'

const PROGRESS_MS = 200
/** The same by file, where each word wakes a command that has nothing to do but to copy. */
const FILE_PROGRESS_MS = 500

/** How the blob is wanted: see {@link GetRequest}. */
export interface GetWay extends Pick<GetRequest, 'order' | 'byFile'> {
  /** Only these bytes, end excluded. */
  readonly part: { readonly from: number; readonly to: number } | undefined
}

/** Streams it; `response` is nobody else's. Whatever fails ends the body with an error frame. */
export async function answerGet(
  response: ServerResponse,
  content: OpenContent,
  way: GetWay,
  signal: AbortSignal,
): Promise<void> {
  const { part } = way
  const file = way.byFile === true && way.order === 'landed' && part === undefined ? await fileOf(content) : undefined
  const bytes = part === undefined ? content.bytes : part.to - part.from
  response.writeHead(200, { 'content-type': GET_CONTENT_TYPE, 'darner-bytes': String(bytes), ...file })
  const out = new Out(response, content, signal)
  const words = file && new LandedWords(content)
  const progress = () => {
    const body = { ...content.progress(), ...(part && { bytes, have: out.sent }) }
    response.write(Buffer.concat([...(words?.take() ?? []), jsonFrame('progress', body)]))
    timer.refresh()
  }
  const timer = setInterval(progress, file === undefined ? PROGRESS_MS : FILE_PROGRESS_MS)
  try {
    progress()
    if (part !== undefined) {
      const started = performance.now()
      const digest = await out.part(part)
      const seconds = (performance.now() - started) / 1000
      response.end(jsonFrame('summary', { digest, bytes, seconds, from: content.progress().from, pieces: 0 }))
      return
    }
    if (words !== undefined) await words.all(progress, signal)
    else await (way.order === 'ordered' ? out.ordered() : out.landed())
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
  /** What is read from the store, chunk after chunk: fresh memory for each would be noticed late as garbage. */
  readonly #buffer = Buffer.allocUnsafeSlow(GET_CHUNK_BYTES)
  /** Bytes sent in order. */
  sent = 0

  constructor(response: ServerResponse, content: OpenContent, signal: AbortSignal) {
    this.#response = response
    this.#content = content
    this.#signal = signal
  }

  async ordered(): Promise<void> {
    for await (const bytes of this.#content.read({ buffer: this.#buffer, signal: this.#signal })) {
      await this.#data(this.sent, bytes)
      this.sent += bytes.byteLength
    }
  }

  /** [from, to) in order, offsets counted from its first byte. Resolves with its own digest. */
  async part({ from, to }: { from: number; to: number }): Promise<string> {
    const digester = new Digester()
    for await (const bytes of this.#content.read({ from, to, buffer: this.#buffer, signal: this.#signal })) {
      digester.update(bytes)
      await this.#data(this.sent, bytes)
      this.sent += bytes.byteLength
    }
    return digester.finish()
  }

  /** Pieces as they land: what is here first, then each as it comes. */
  async landed(): Promise<void> {
    const { stored } = this.#content
    const { task } = stored
    const signal = this.#content.unlessFailed(this.#signal)
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
          await abortable(landed, signal)
          continue
        }
        sent += run[1]
        const { from } = pieceRange(task, run[0])
        const { to } = pieceRange(task, run[0] + run[1] - 1)
        await this.#copy(from, to)
      }
    } finally {
      stop()
    }
  }

  async #copy(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += GET_CHUNK_BYTES) {
      const bytes = this.#buffer.subarray(0, to - at)
      await this.#content.stored.read(at, bytes)
      await this.#data(at, bytes)
    }
  }

  /** Resolves when `bytes` may be used again. */
  async #data(offset: number, bytes: Uint8Array): Promise<void> {
    this.#response.write(dataHead(offset, bytes.byteLength))
    // a response that is over calls back too; its socket's end is the signal's
    const written = new Promise<void>((resolve) => this.#response.write(bytes, () => resolve()))
    await abortable(written, this.#signal)
  }
}
