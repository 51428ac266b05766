/** Reads origins: registries (distribution-spec, "Pull") and plain URLs. One call is one read; retries are the caller's. */
import type { Clock } from '../core/clock.ts'
import type { ManifestAnswer } from '../core/contracts/content.ts'
import { algorithmOf, type Digest, Digester, isDigest } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { originName } from '../core/task/origin.ts'
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts'
import { bareMediaType, isPage, SIGNED_SCHEMA1 } from '../oci/media-types.ts'
import { type AccessOptions, askOf, type ManifestOrigin, manifestAsk, type OriginTarget } from './origin-ask.ts'
import { type BodyPlan, bodyStream, planBody } from './origin-body.ts'
import { askName, type HttpAnswer, type OriginHttpOptions } from './origin-http.ts'
import { OriginSender } from './origin-sender.ts'
import type { TokenAuthOptions } from './token-auth.ts'

export type OriginClientOptions = OriginHttpOptions & TokenAuthOptions

export const ORIGIN_DEFAULTS: OriginClientOptions = {
  connectMs: 10_000,
  firstByteMs: 30_000,
  idleMs: 30_000,
  maxRedirects: 5,
  connectionsPerHost: 64,
  userAgent: 'darner',
  hosts: {},
  tokenMs: 30_000,
  tokenMarginMs: 10_000,
}

/** What tells one version of a content from another. */
export interface Validator {
  readonly etag?: string
  readonly lastModified?: string
  readonly bytes?: number
}

export interface OriginStat extends Validator {
  /** 200, or 206 where only a ranged read was answered. */
  readonly status: number
  /** As a registry states it, unverified. */
  readonly digest?: Digest
  readonly mediaType?: string
  /** `Content-Disposition` as it came. */
  readonly disposition?: string
  readonly acceptsRanges: boolean
}

export interface ReadOptions extends AccessOptions {
  /** First byte wanted; 0 when absent. */
  readonly from?: number
  /** First byte not wanted any more; the end when absent. */
  readonly to?: number
  /** The version that earlier bytes came from: another one throws ORIGIN_CHANGED. */
  readonly ifMatch?: Validator
}

/** One running read. Closing it, or leaving its stream early, ends the connection. */
export interface OriginRead extends Validator, AsyncDisposable {
  /** Where the stream begins: what was asked for, or 0 when the origin ignored the range and sends everything. */
  readonly from: number
  readonly mediaType?: string
  readonly acceptsRanges: boolean
  /** Where they come from, after redirects. */
  readonly url: URL
  /**
   * The bytes, to be read once; nothing is fetched ahead of the reader beyond socket buffers. Throws ORIGIN_TRUNCATED,
   * TIMED_OUT (silence), ORIGIN_FAILED (more bytes than promised), or the signal's reason.
   */
  readonly stream: AsyncIterable<Uint8Array>
  /** See `OriginRead` in contracts/origin.ts. */
  done(chunk: Uint8Array): void
}

export interface ManifestHead {
  readonly digest?: Digest
  readonly mediaType: string
  readonly bytes?: number
}

/**
 * All calls throw ORIGIN_UNREACHABLE, ORIGIN_NOT_FOUND, ORIGIN_UNAUTHORIZED, ORIGIN_DENIED, ORIGIN_BUSY, ORIGIN_FAILED,
 * ORIGIN_FORBIDDEN, TIMED_OUT, BAD_ARGUMENT, or the signal's reason.
 */
export interface OriginClient extends AsyncDisposable {
  /** What the origin says of a content, without reading it. */
  stat(target: OriginTarget, options: AccessOptions): Promise<OriginStat>
  /** Starts reading: one GET (and what authorisation takes). Also throws ORIGIN_CHANGED. */
  read(target: OriginTarget, options: ReadOptions): Promise<OriginRead>
  /** A manifest's exact bytes by tag or digest, verified. Also throws DIGEST_MISMATCH, MANIFEST_INVALID (too long), UNSUPPORTED (schema 1). */
  manifest(origin: ManifestOrigin, reference: string, options: AccessOptions): Promise<ManifestAnswer>
  /** What a HEAD says of a manifest, unverified. */
  manifestHead(origin: ManifestOrigin, reference: string, options: AccessOptions): Promise<ManifestHead>
}

/** Opens a client; closing it ends what is under way. Absent options have the values of {@link ORIGIN_DEFAULTS}. */
export function createOriginClient(
  options: Partial<OriginClientOptions>,
  parts: { log: Log; clock: Clock },
): OriginClient {
  return new HttpOriginClient({ ...ORIGIN_DEFAULTS, ...options }, parts)
}

/** Answers to HEAD that may mean no more than "not by HEAD". */
const HEAD_UNWELCOME = new Set([400, 403, 405, 501])

class HttpOriginClient implements OriginClient {
  readonly #options: OriginClientOptions
  readonly #sender: OriginSender

  constructor(options: OriginClientOptions, parts: { log: Log; clock: Clock }) {
    this.#options = options
    this.#sender = new OriginSender(options, parts)
  }

  async stat(target: OriginTarget, options: AccessOptions): Promise<OriginStat> {
    const ask = askOf(target, options)
    await using head = await this.#sender.send({ ...ask, method: 'HEAD' })
    if (HEAD_UNWELCOME.has(head.status) && (ask.repository === undefined || head.crossed || head.status === 405)) {
      await using one = await this.#sender.accept(
        { ...ask, headers: { ...ask.headers, range: 'bytes=0-0' } },
        [200, 206, 416],
      )
      noPage(one, ask.repository, askName('GET', ask.url))
      const { bytes } = planBody(one, { from: 0, to: 1 }, askName('GET', ask.url))
      return {
        ...headOf(one),
        status: one.status,
        acceptsRanges: one.status !== 200,
        ...(bytes === undefined ? {} : { bytes }),
      }
    }
    if (head.status !== 200) throw await this.#sender.refusal(ask, head)
    noPage(head, ask.repository, askName('HEAD', ask.url))
    const digest = head.header('docker-content-digest')
    if (digest !== undefined && isDigest(digest)) sameDigest(digest, target, askName('HEAD', ask.url))
    const bytes = contentLength(head)
    return {
      ...headOf(head),
      status: head.status,
      ...(bytes === undefined ? {} : { bytes }),
      ...(digest !== undefined && isDigest(digest) ? { digest } : {}),
    }
  }

  async read(target: OriginTarget, options: ReadOptions): Promise<OriginRead> {
    const { from = 0, to, ifMatch } = options
    if (!Number.isSafeInteger(from) || from < 0 || (to !== undefined && (!Number.isSafeInteger(to) || to <= from))) {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `read of ${originName(target.origin)}: ${from} to ${to ?? 'the end'} is not a byte range`,
      )
    }
    const ask = askOf(target, options)
    const ranged = from > 0 || to !== undefined
    const headers = {
      ...ask.headers,
      ...(ranged ? { range: `bytes=${from}-${to === undefined ? '' : to - 1}` } : {}),
      ...condition(ifMatch, ranged),
    }
    const what = askName('GET', ask.url)
    const answer = await this.#sender.accept({ ...ask, headers }, ranged ? [200, 206, 416] : [200])
    try {
      noPage(answer, ask.repository, what)
      const seen = headOf(answer)
      const plan = planBody(answer, ranged ? { from, ...(to === undefined ? {} : { to }) } : undefined, what)
      sameVersion(what, ifMatch, seen, plan)
      const { idleMs } = this.#options
      return {
        ...seen,
        from: plan.from,
        url: answer.url,
        ...(plan.bytes === undefined ? {} : { bytes: plan.bytes }),
        stream: bodyStream(answer.body, plan, { what, idleMs, signal: options.signal }),
        done: (chunk) => answer.done(chunk),
        [Symbol.asyncDispose]: () => answer[Symbol.asyncDispose](),
      }
    } catch (error) {
      await answer[Symbol.asyncDispose]()
      throw error
    }
  }

  async manifest(origin: ManifestOrigin, reference: string, options: AccessOptions): Promise<ManifestAnswer> {
    const ask = manifestAsk(origin, reference, options)
    const what = askName('GET', ask.url)
    await using answer = await this.#sender.accept(ask, [200])
    const mediaType = bareMediaType(answer.header('content-type') ?? '')
    if (mediaType === SIGNED_SCHEMA1)
      throw new DarnerError('UNSUPPORTED', `${what}: a signed manifest of schema 1, which no digest stands for`)
    const plan = planBody(answer, undefined, what)
    const tooLong = () =>
      new DarnerError('MANIFEST_INVALID', `${what}: the manifest has more than ${MAX_MANIFEST_BYTES} bytes`)
    if ((plan.bytes ?? 0) > MAX_MANIFEST_BYTES) throw tooLong()
    const chunks: Uint8Array[] = []
    let bytes = 0
    for await (const chunk of bodyStream(answer.body, plan, {
      what,
      idleMs: this.#options.idleMs,
      signal: options.signal,
    })) {
      bytes += chunk.byteLength
      if (bytes > MAX_MANIFEST_BYTES) throw tooLong()
      chunks.push(chunk)
    }
    const body = Buffer.concat(chunks)
    const stated = answer.header('docker-content-digest')
    const asked = isDigest(reference) ? reference : undefined
    const told = stated !== undefined && isDigest(stated) ? stated : undefined
    if (asked !== undefined) verify(body, asked, what, 'was asked for')
    if (told !== undefined && told !== asked) verify(body, told, what, 'is what the origin states')
    return { digest: asked ?? told ?? hash(body, 'sha256'), mediaType, body }
  }

  async manifestHead(origin: ManifestOrigin, reference: string, options: AccessOptions): Promise<ManifestHead> {
    await using answer = await this.#sender.accept(
      { ...manifestAsk(origin, reference, options), method: 'HEAD' },
      [200],
    )
    const digest = answer.header('docker-content-digest')
    const bytes = contentLength(answer)
    return {
      mediaType: bareMediaType(answer.header('content-type') ?? ''),
      ...(digest !== undefined && isDigest(digest) ? { digest } : {}),
      ...(bytes === undefined ? {} : { bytes }),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender[Symbol.asyncDispose]()
  }
}

function headOf(answer: HttpAnswer): {
  etag?: string
  lastModified?: string
  mediaType?: string
  disposition?: string
  acceptsRanges: boolean
} {
  const etag = answer.header('etag')
  const lastModified = answer.header('last-modified')
  const mediaType = answer.header('content-type')
  const disposition = answer.header('content-disposition')
  return {
    ...(etag === undefined ? {} : { etag }),
    ...(lastModified === undefined ? {} : { lastModified }),
    ...(mediaType === undefined ? {} : { mediaType: bareMediaType(mediaType) }),
    ...(disposition === undefined ? {} : { disposition }),
    acceptsRanges: answer.status === 206 || /\bbytes\b/i.test(answer.header('accept-ranges') ?? ''),
  }
}

/** A page where a registry's blob was asked for is a web interface, or a login that lets nobody in. Throws ORIGIN_DENIED. */
function noPage(answer: HttpAnswer, repository: string | undefined, what: string): void {
  const type = answer.header('content-type')
  if (repository === undefined || !isPage(type)) return
  throw new DarnerError('ORIGIN_DENIED', `${what}: ${answer.url.host} answered a page (${type}), not a blob`, {
    details: { host: answer.url.host, status: answer.status },
  })
}

/** Throws ORIGIN_DENIED where a registry answers about another content than it was asked for. */
function sameDigest(stated: Digest, { origin, digest }: OriginTarget, what: string): void {
  if (origin.kind !== 'registry' || digest === undefined || stated === digest) return
  if (algorithmOf(stated) !== algorithmOf(digest)) return
  throw new DarnerError('ORIGIN_DENIED', `${what}: the answer is about ${stated}`)
}

function contentLength(answer: HttpAnswer): number | undefined {
  const text = answer.header('content-length')
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

/** Conditions for the origin to check itself; a weak ETag can't stand for bytes (RFC 9110, section 13.1.5). */
function condition(version: Validator | undefined, ranged: boolean): Record<string, string> {
  const etag = version?.etag?.startsWith('W/') ? undefined : version?.etag
  if (etag !== undefined) return ranged ? { 'if-range': etag } : { 'if-match': etag }
  return version?.lastModified !== undefined && ranged && version.etag === undefined
    ? { 'if-range': version.lastModified }
    : {}
}

function sameVersion(what: string, wanted: Validator | undefined, seen: Validator, plan: BodyPlan): void {
  if (wanted === undefined) return
  const differs = (name: string, then: string | number | undefined, now: string | number | undefined): void => {
    if (then === undefined || now === undefined || then === now) return
    throw new DarnerError('ORIGIN_CHANGED', `${what}: ${name} was ${then} and is now ${now}`, {
      details: { was: then, is: now },
    })
  }
  differs('the length', wanted.bytes, plan.bytes)
  differs('the ETag', wanted.etag, seen.etag)
  if (wanted.etag === undefined || seen.etag === undefined)
    differs('Last-Modified', wanted.lastModified, seen.lastModified)
}

function hash(body: Uint8Array, algorithm: 'sha256' | 'sha512'): Digest {
  const digester = new Digester(algorithm)
  digester.update(body)
  return digester.finish()
}

function verify(body: Uint8Array, digest: Digest, what: string, which: string): void {
  const got = hash(body, algorithmOf(digest))
  if (got !== digest)
    throw new DarnerError('DIGEST_MISMATCH', `${what}: ${digest} ${which}, the bytes have ${got}`, {
      details: { expected: digest, got },
    })
}
