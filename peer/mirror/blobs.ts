/**
 * Blobs (distribution-spec, "Pulling blobs"), streamed while their pieces arrive. A range comes from the pieces that cover it. The last
 * bytes of a whole blob leave only after its digest has matched.
 */

import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, type DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Credential, RegistryOrigin } from '../../src/core/task/origin.ts'
import { upTo } from '../../src/core/up-to.ts'
import { isPage } from '../../src/oci/media-types.ts'
import type { OriginHttp } from '../../src/origin/origin-http.ts'
import type { Rights } from '../../src/rights/right.ts'
import type { Store } from '../../src/store/store.ts'
import type { Engine } from '../downloader/downloader.ts'
import type { BlobRequest } from '../downloader/local-rights.ts'
import type { OpenContent } from '../downloader/open-content.ts'
import { Sending, send, sendWhole } from './answer.ts'
import { type Ask, askKey } from './ask.ts'
import { ociBody } from './oci-errors.ts'
import { askUpstream, relay } from './pass-through.ts'
import { type ByteRange, contentRange, decideRange, MAX_RANGES, matchesNone } from './range.ts'
import type { Sizes } from './sizes.ts'
import { originAt, type Place } from './upstreams.ts'

export interface BlobsOptions {
  /** Clients push through the mirror: what is here need not be in the repository that they are about to fill. */
  readonly pushes: boolean
}

export interface BlobsParts {
  readonly engine: Engine
  readonly scheduler: SchedulerPort
  readonly store: Store
  readonly http: OriginHttp
  /** What was shown on this host. */
  readonly rights: Rights
  readonly sizes: Sizes
}

/**
 * Refusals that the client gets from its origin itself. The last is for rights that could not be asked for on its behalf, at a token server
 * without TLS for instance. The client's own rights may suffice.
 */
const TOLD_BY_ORIGIN = ['ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_FORBIDDEN'] as const
const ORIGIN_AWAY = ['ORIGIN_UNREACHABLE', 'ORIGIN_FAILED', 'ORIGIN_BUSY', 'TIMED_OUT'] as const
/** How long a client's fetch may stand still without a supernode: it has an origin of its own to go to. A slow peer's next piece may take about so long. */
const ALONE_MS = 1_000
/** Kept back at the end of a whole blob until its digest has matched. */
const HELD_BACK_BYTES = 1
/** Lengths that were asked for lately. */
const MAX_LENGTHS = 4096

export class Blobs {
  readonly #options: BlobsOptions
  readonly #parts: BlobsParts
  /** HEAD answers by (place, digest, credential): a blob's length never changes. The right to know it is checked apart. */
  readonly #lengths = new LRUCache<string, number>(upTo(MAX_LENGTHS))
  #asked = 0
  #held = 0

  constructor(options: BlobsOptions, parts: BlobsParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Blobs asked for, and how many of them were here whole. */
  get counts(): { blobs: number; held: number } {
    return { blobs: this.#asked, held: this.#held }
  }

  async head(ask: Ask, place: Place, digest: Digest): Promise<void> {
    const { credential, signal } = ask
    const origin: RegistryOrigin = { ...originAt(place), collection: 'blobs' }
    const { store, engine, http, rights } = this.#parts
    const stored = store.byDigest(digest)
    const { pushes } = this.#options
    const wanted = requestOf(origin, digest, credential)
    if (stored?.complete && !pushes) {
      try {
        const { bytes } = stored.task
        await engine.right({ ...wanted, bytes }, { signal })
        return this.#headOnly(ask, digest, stored.task.bytes)
      } catch (error) {
        if (!isDarnerError(error, ...TOLD_BY_ORIGIN)) throw error
        return await this.#pass(ask, place, digest)
      }
    }
    const key = askKey(origin, digest, credential)
    const asker = (bytes: number) => ({ origin, content: digest, bytes, credential })
    const before = pushes ? undefined : this.#lengths.get(key)
    if (before !== undefined && rights.known(asker(before)) !== undefined) return this.#headOnly(ask, digest, before)
    try {
      const answer = await askUpstream(http, ask, place.upstream, `${place.repository}/blobs/${digest}`)
      const length = answer.header('content-length')
      if (
        answer.status !== 200 ||
        length === undefined ||
        !/^\d{1,15}$/.test(length) ||
        isPage(answer.header('content-type'))
      )
        return await relay(ask, answer, place)
      await answer[Symbol.asyncDispose]()
      // a query may carry rights which the client does not have without it
      if (ask.query === '') {
        this.#noteLength(key, Number(length))
        rights.accepted(asker(Number(length)))
      }
      this.#headOnly(ask, digest, Number(length))
    } catch (error) {
      if (!isDarnerError(error, ...ORIGIN_AWAY) || ask.response.headersSent) throw error
      this.#headOnly(ask, digest, await this.#lengthInSwarm(origin, digest, credential, error, signal))
    }
  }

  async get(ask: Ask, place: Place, digest: Digest): Promise<void> {
    const { request, response, credential, signal } = ask
    const origin: RegistryOrigin = { ...originAt(place), collection: 'blobs' }
    this.#asked++
    if (this.#parts.store.byDigest(digest)?.complete) this.#held++
    let content: OpenContent
    try {
      content = await this.#open(origin, digest, credential, signal)
    } catch (error) {
      if (!isDarnerError(error, ...TOLD_BY_ORIGIN)) throw error
      return await this.#pass(ask, place, digest)
    }
    await using held = content
    const etag = `"${digest}"`
    const headers = blobHeaders(digest)
    if (matchesNone(request.headers['if-none-match'], etag)) {
      response.writeHead(304, headers).end()
      return
    }
    const { bytes } = held
    const decision = decideRange(request.headers.range, one(request.headers['if-range']), { bytes, etag })
    switch (decision.kind) {
      case 'unsatisfiable':
      case 'tooMany':
        return sendWhole(response, {
          status: 416,
          headers: { ...headers, 'content-type': 'application/json', 'content-range': `bytes */${bytes}` },
          body: ociBody(
            'RANGE_INVALID',
            decision.kind === 'tooMany'
              ? `${decision.count} ranges in one request, the most are ${MAX_RANGES}`
              : `no byte of ${bytes} in the ranges asked for`,
          ),
          head: false,
        })
      case 'whole':
        response.writeHead(200, { ...headers, 'content-length': String(bytes) })
        response.flushHeaders()
        return await stream(ask, held, () => sendVerified(ask, held, { from: 0, to: bytes }))
      case 'parts': {
        const [first] = decision.parts
        if (first !== undefined && decision.parts.length === 1) {
          response.writeHead(206, {
            ...headers,
            'content-length': String(first.to - first.from),
            'content-range': contentRange(first, bytes),
          })
          response.flushHeaders()
          return await stream(ask, held, () => sendVerified(ask, held, first))
        }
        return await stream(ask, held, () => sendMultipart(ask, held, decision.parts, headers))
      }
    }
  }

  /** The origin's own words to this very client, its challenge byte for byte. */
  async #pass(ask: Ask, place: Place, digest: Digest): Promise<void> {
    const answer = await askUpstream(this.#parts.http, ask, place.upstream, `${place.repository}/blobs/${digest}`)
    await relay(ask, answer, place)
  }

  /** The blob, once this client may have it. */
  async #open(
    origin: RegistryOrigin,
    digest: Digest,
    credential: Credential | undefined,
    signal: AbortSignal,
  ): Promise<OpenContent> {
    const { engine, sizes } = this.#parts
    for (;;) {
      const stated = sizes.of(digest)
      try {
        return await engine.openStored(
          { ...requestOf(origin, digest, credential), ...(stated === undefined ? {} : { ...stated, lead: true }) },
          { signal, aloneMs: ALONE_MS },
        )
      } catch (error) {
        if (stated === undefined || !isDarnerError(error, 'SIZE_MISMATCH')) throw error
        sizes.forget(digest)
      }
    }
  }

  /** The origin is down: what the swarm knows of the blob, under the swarm's own rules for readers. */
  async #lengthInSwarm(
    origin: RegistryOrigin,
    digest: Digest,
    credential: Credential | undefined,
    why: DarnerError,
    signal: AbortSignal,
  ): Promise<number> {
    const { scheduler } = this.#parts
    try {
      await scheduler.reachable({ signal })
      await using registration = await scheduler.register(
        { origin, digest, priority: 'background', ...(credential === undefined ? {} : { credential }) },
        { signal },
      )
      return registration.task.bytes
    } catch {
      // SUPERNODE_UNREACHABLE, or the origin's silence once more: what the origin did is what counts
      throw why
    }
  }

  #headOnly(ask: Ask, digest: Digest, bytes: number): void {
    const headers = blobHeaders(digest)
    if (matchesNone(ask.request.headers['if-none-match'], `"${digest}"`)) ask.response.writeHead(304, headers)
    else ask.response.writeHead(200, { ...headers, 'content-length': String(bytes) })
    ask.response.end()
  }

  #noteLength(key: string, bytes: number): void {
    this.#lengths.set(key, bytes)
  }
}

function requestOf(origin: RegistryOrigin, digest: Digest, credential: Credential | undefined): BlobRequest {
  return { origin, digest, priority: 'interactive', ...(credential === undefined ? {} : { credential }) }
}

function blobHeaders(digest: Digest): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    'docker-content-digest': digest,
    etag: `"${digest}"`,
    'accept-ranges': 'bytes',
  }
}

/** Sends a body; whatever fails once it has begun is thrown, and the caller breaks the connection. */
async function stream({ response }: Ask, content: OpenContent, work: () => Promise<void>): Promise<void> {
  try {
    await work()
    response.end()
  } catch (error) {
    throw asDarnerError(error, `blob of ${content.bytes} bytes`)
  }
}

/** The bytes of a range. Of a whole blob, the last byte leaves only when the digest has matched. */
async function sendVerified(ask: Ask, content: OpenContent, { from, to }: ByteRange): Promise<void> {
  const { signal } = ask
  using sending = new Sending(ask)
  const whole = from === 0 && to === content.bytes
  const freely = whole ? Math.max(from, to - HELD_BACK_BYTES) : to
  const first = content.read({ from, to: freely, lend: true, pace: true, signal })
  for await (const chunk of first) await sending.through(chunk)
  if (!whole) return
  await content.matched({ signal })
  for await (const chunk of content.read({ from: freely, to, lend: true, signal })) await sending.through(chunk)
}

/** RFC 9110, section 14.6: several ranges in one answer. */
async function sendMultipart(
  ask: Ask,
  content: OpenContent,
  parts: readonly ByteRange[],
  headers: Readonly<Record<string, string>>,
): Promise<void> {
  const { response } = ask
  const boundary = randomUUID()
  const heads = parts.map((part) =>
    Buffer.from(
      `\r\n--${boundary}\r\ncontent-type: application/octet-stream\r\ncontent-range: ${contentRange(part, content.bytes)}\r\n\r\n`,
    ),
  )
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
  const bytes = parts.reduce((sum, { from, to }, at) => sum + (heads[at]?.byteLength ?? 0) + to - from, tail.byteLength)
  response.writeHead(206, {
    ...headers,
    'content-type': `multipart/byteranges; boundary=${boundary}`,
    'content-length': String(bytes),
  })
  for (const [at, part] of parts.entries()) {
    await send(ask, heads[at] ?? new Uint8Array())
    await sendVerified(ask, content, part)
  }
  await send(ask, tail)
}

function one(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'string' || value === undefined ? value : value[0]
}
