/** From an answer's head to its bytes: what is coming, and proof that all of it came. */
import type { Readable } from 'node:stream'
import { DarnerError } from '../core/errors.ts'
import { MAX_TASK_BYTES } from '../core/task/task.ts'
import { brokenBodyError } from './origin-errors.ts'
import type { HttpAnswer } from './origin-http.ts'

/** Read before it is asked for. */
const AHEAD_BYTES = 256 * 1024

/** What a body holds, as its head says. */
export interface BodyPlan {
  /** Offset of the body's first byte in the whole content. */
  readonly from: number
  /** Length of the whole content; undefined when the origin didn't say. */
  readonly bytes?: number
  /** Length of this body. */
  readonly coming?: number
}

/**
 * Reads the head of a 200, 206 or 416 answer to a request for `range` (undefined: for everything). A range that is not the one asked for
 * throws ORIGIN_FAILED. One beyond the content's end throws ORIGIN_CHANGED, except right at the end: that is empty.
 */
export function planBody(answer: HttpAnswer, range: { from: number; to?: number } | undefined, what: string): BodyPlan {
  const { status } = answer
  const broken = (why: string) =>
    new DarnerError('ORIGIN_FAILED', `${what}: ${why}`, { details: { host: answer.url.host, status } })
  const length = answer.header('content-length')
  const stated = length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : undefined
  if (status === 200) {
    if ((stated ?? 0) > MAX_TASK_BYTES)
      throw new DarnerError('LIMIT_EXCEEDED', `${what}: ${stated} bytes, more than ${MAX_TASK_BYTES}`)
    return { from: 0, ...(stated === undefined ? {} : { bytes: stated, coming: stated }) }
  }
  const text = answer.header('content-range') ?? ''
  const form = /^bytes (?:(\d{1,15})-(\d{1,15})|\*)\/(\d{1,15}|\*)$/.exec(text.trim())
  const total = form?.[3] === undefined || form[3] === '*' ? undefined : Number(form[3])
  if (status === 416) {
    // the body is an error text, not content
    if (range !== undefined && total === range.from) return { from: range.from, bytes: total, coming: 0 }
    throw new DarnerError(
      'ORIGIN_CHANGED',
      `${what}: bytes from ${range?.from} on were asked for, the origin has ${total ?? 'fewer'}`,
      {
        details: { host: answer.url.host, status },
      },
    )
  }
  if (range === undefined || form?.[1] === undefined || form[2] === undefined) {
    throw broken(`answered ${status} with Content-Range ${JSON.stringify(text.slice(0, 80))}`)
  }
  const [first, last] = [Number(form[1]), Number(form[2])]
  const end = Math.min(range.to ?? Number.POSITIVE_INFINITY, total ?? Number.POSITIVE_INFINITY)
  const wrong =
    first !== range.from || last < first || (Number.isFinite(end) && last !== end - 1) || (total ?? 0) > MAX_TASK_BYTES
  if (wrong)
    throw broken(
      `bytes ${range.from}-${range.to === undefined ? '' : range.to - 1} were asked for, ${text.slice(0, 80)} was sent`,
    )
  const coming = last - first + 1
  if (stated !== undefined && stated !== coming) throw broken(`${text.slice(0, 80)} with ${stated} bytes was sent`)
  return { from: first, coming, ...(total === undefined ? {} : { bytes: total }) }
}

/** The body's bytes, exactly as many as planned. For what it throws see `OriginRead.stream`. */
export async function* bodyStream(
  body: Readable,
  plan: BodyPlan,
  options: { what: string; idleMs: number; signal: AbortSignal },
): AsyncIterable<Uint8Array> {
  const { what, idleMs, signal } = options
  const expected = plan.coming
  let got = 0
  if (expected === 0) return
  const chunks = new Chunks(body)
  try {
    for (;;) {
      const next = await pull(chunks, signal, (error) => brokenBodyError(error, what, got, expected, idleMs))
      if (next === undefined) break
      got += next.byteLength
      if (expected !== undefined && got > expected)
        throw new DarnerError('ORIGIN_FAILED', `${what}: ${expected} bytes were promised, more came`)
      yield next
    }
  } finally {
    body.destroy()
  }
  if (expected !== undefined && got < expected) throw brokenBodyError(undefined, what, got, expected, idleMs)
}

async function pull(
  chunks: Chunks,
  signal: AbortSignal,
  broken: (error: unknown) => DarnerError,
): Promise<Uint8Array | undefined> {
  try {
    return await chunks.next()
  } catch (error) {
    signal.throwIfAborted()
    throw broken(error)
  }
}

/**
 * A body's chunks as they were read. A stream's own iterator joins waiting chunks: it copies them to new memory, and doesn't give back the
 * memory that they were read into.
 */
class Chunks {
  readonly #body: Readable
  readonly #waiting: Uint8Array[] = []
  #bytes = 0
  #over: { readonly error?: unknown } | undefined
  #wake = () => {}

  constructor(body: Readable) {
    this.#body = body
    if (body.closed) this.#end(body.readableEnded ? {} : { error: body.errored ?? undefined })
    body.on('error', (error) => this.#end({ error }))
    body.on('end', () => this.#end({}))
    // comes alone when it was ended from here
    body.on('close', () => this.#end({ error: body.errored ?? undefined }))
    body.on('data', (chunk: Uint8Array) => {
      this.#waiting.push(chunk)
      this.#bytes += chunk.byteLength
      if (this.#bytes >= AHEAD_BYTES) body.pause()
      this.#wake()
    })
  }

  /** Undefined at the end. Throws what broke the body. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#waiting.shift()
      if (chunk !== undefined) {
        this.#bytes -= chunk.byteLength
        if (this.#bytes < AHEAD_BYTES && this.#body.isPaused()) this.#body.resume()
        return chunk
      }
      if (this.#over !== undefined) {
        if ('error' in this.#over) throw this.#over.error
        return undefined
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #end(how: { readonly error?: unknown }): void {
    this.#over ??= how
    this.#wake()
  }
}
