/**
 * Manifests (distribution-spec, "Pulling manifests"): the exact bytes with the media type that the origin stated. Manifests by digest are
 * kept, for readers with a right to them. A tag is the origin's to answer. When it can't, an old answer is marked as one.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../src/core/clock.ts'
import type { ManifestAnswer, ManifestRequest } from '../../src/core/contracts/content.ts'
import type { OriginPort } from '../../src/core/contracts/origin.ts'
import { algorithmOf, Digester, isDigest } from '../../src/core/digest.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import type { Credential, RegistryOrigin } from '../../src/core/task/origin.ts'
import { bareMediaType, MANIFEST_ACCEPT } from '../../src/oci/media-types.ts'
import type { OriginHttp } from '../../src/origin/origin-http.ts'
import type { Asker, Rights } from '../../src/rights/right.ts'
import type { Engine } from '../downloader/downloader.ts'
import { sendWhole } from './answer.ts'
import { type Ask, askKey } from './ask.ts'
import { askUpstream, relay } from './pass-through.ts'
import { matchesNone } from './range.ts'
import type { Sizes } from './sizes.ts'
import { originAt, type Place } from './upstreams.ts'

export interface ManifestsOptions {
  /** How old an answer about a tag may be that is given while its origin is down; 0 gives none. */
  readonly staleMs: number
}

export interface ManifestsParts {
  readonly engine: Engine
  readonly origin: OriginPort
  readonly http: OriginHttp
  readonly rights: Rights
  readonly sizes: Sizes
  readonly clock: Clock
}

const MAX_KEPT_BYTES = 32 * 1024 * 1024
/** What an answer counts beside its body, so that there are never more than ten thousand. */
const ENTRY_BYTES = 3_356
const ASK_MS = 120_000
/** Longer than a supernode's answer about a tag counts. */
const CHANGED_MS = 10_000
const DOWN = ['ORIGIN_UNREACHABLE', 'ORIGIN_FAILED', 'ORIGIN_BUSY', 'ORIGIN_TRUNCATED', 'TIMED_OUT'] as const

interface Kept {
  readonly answer: ManifestAnswer
  readonly atMs: number
}

export class MirrorManifests {
  readonly #options: ManifestsOptions
  readonly #parts: ManifestsParts
  /** By (place, tag or digest, credential). */
  readonly #kept = new LRUCache<string, Kept>({
    maxSize: MAX_KEPT_BYTES,
    sizeCalculation: ({ answer }) => answer.body.byteLength + ENTRY_BYTES,
  })
  readonly #asking = new Map<string, Promise<ManifestAnswer>>()
  /** Pushed or deleted through us, until when: its registry alone knows of it. */
  readonly #changed = new Map<string, number>()

  constructor(options: ManifestsOptions, parts: ManifestsParts) {
    this.#options = options
    this.#parts = parts
  }

  /** A client of ours has pushed or deleted it, and may want to see that at once. */
  changed(place: Place, reference: string): void {
    const nowMs = this.#parts.clock.monotonicMs()
    for (const [key, untilMs] of this.#changed) if (untilMs <= nowMs) this.#changed.delete(key)
    this.#changed.set(askKey(originAt(place), reference, undefined), nowMs + CHANGED_MS)
  }

  async serve(ask: Ask, place: Place, reference: string): Promise<void> {
    const changedMs = this.#changed.get(askKey(originAt(place), reference, undefined))
    if (changedMs !== undefined && changedMs > this.#parts.clock.monotonicMs())
      return await this.#pass(ask, place, reference)
    let answer: ManifestAnswer
    try {
      answer = await this.#answer(ask, place, reference)
    } catch (error) {
      const refused = isDarnerError(error, 'ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_FORBIDDEN')
      // the origin may know a kind of manifest that was not asked for on the client's behalf, or that only the client can check
      const other =
        (isDarnerError(error, 'ORIGIN_NOT_FOUND') && acceptsOthers(ask.request.headers.accept)) ||
        isDarnerError(error, 'UNSUPPORTED')
      if (refused || other) return await this.#pass(ask, place, reference)
      throw error
    }
    if (!accepts(ask.request.headers.accept, answer.mediaType)) return await this.#pass(ask, place, reference)
    const { digest, mediaType, body, ageMs } = answer
    const headers: Record<string, string> = {
      'content-type': mediaType === '' ? 'application/octet-stream' : mediaType,
      'docker-content-digest': digest,
      etag: `"${digest}"`,
      ...(place.ns === undefined ? {} : { 'oci-namespace': place.ns }),
      ...(ageMs === undefined
        ? {}
        : { age: String(Math.round(ageMs / 1000)), warning: '110 darner "Response is Stale: the origin is down"' }),
    }
    if (matchesNone(ask.request.headers['if-none-match'], `"${digest}"`)) {
      ask.response.writeHead(304, headers).end()
      return
    }
    sendWhole(ask.response, { status: 200, headers, body, head: ask.head })
  }

  async #pass(ask: Ask, place: Place, reference: string): Promise<void> {
    const path = `${place.repository}/manifests/${reference}`
    await relay(ask, await askUpstream(this.#parts.http, ask, place.upstream, path), place)
  }

  async #answer({ credential, signal }: Ask, place: Place, reference: string): Promise<ManifestAnswer> {
    const { rights } = this.#parts
    const origin = originAt(place)
    const key = askKey(origin, reference, credential)
    const kept = this.#kept.get(key)
    if (kept !== undefined && isDigest(reference) && rights.known(askerOf(origin, reference, credential)) !== undefined)
      return kept.answer
    let asking = this.#asking.get(key)
    if (asking === undefined) {
      const staleMs = isDigest(reference) ? 0 : this.#options.staleMs
      asking = this.#ask({
        origin,
        reference,
        ...(credential === undefined ? {} : { credential }),
        ...(staleMs === 0 ? {} : { staleMs }),
      }).finally(() => this.#asking.delete(key))
      asking.then(
        (answer) => {
          if (answer.ageMs !== undefined) return
          rights.accepted(askerOf(origin, answer.digest, credential))
          this.#parts.sizes.learn(answer.body)
          this.#keep(key, answer)
          this.#keep(askKey(origin, answer.digest, credential), answer)
        },
        () => {},
      )
      this.#asking.set(key, asking)
    }
    try {
      return await abortable(asking, signal)
    } catch (error) {
      signal.throwIfAborted()
      return this.#old(error, reference, kept)
    }
  }

  /** What was answered to this credential before, where the origin can't be asked and that may be given. */
  #old(error: unknown, reference: string, kept: Kept | undefined): ManifestAnswer {
    if (kept === undefined || !isDarnerError(error, ...DOWN)) throw error
    if (isDigest(reference)) return kept.answer
    const ageMs = Math.round(this.#parts.clock.monotonicMs() - kept.atMs)
    if (ageMs >= this.#options.staleMs) throw error
    return { ...kept.answer, ageMs }
  }

  /** Outlives the first asker: others may be waiting for the same answer. */
  async #ask(request: ManifestRequest): Promise<ManifestAnswer> {
    const { engine, origin } = this.#parts
    const signal = AbortSignal.timeout(ASK_MS)
    const { credential } = request
    let answer: ManifestAnswer
    try {
      answer = await engine.manifest(request, { signal })
    } catch (error) {
      // larger than a control message may be
      if (!isDarnerError(error, 'LIMIT_EXCEEDED')) throw error
      answer = await origin.manifest(request.origin, request.reference, { credential, signal })
    }
    const wanted = isDigest(request.reference) ? request.reference : answer.digest
    const digester = new Digester(algorithmOf(wanted))
    digester.update(answer.body)
    const got = digester.finish()
    if (got !== wanted) throw new DarnerError('DIGEST_MISMATCH', `manifest ${wanted}: what came hashes to ${got}`)
    checkKind(answer, request.reference)
    return answer
  }

  #keep(key: string, answer: ManifestAnswer): void {
    this.#kept.set(key, { answer, atMs: this.#parts.clock.monotonicMs() })
  }
}

function askerOf(
  origin: Omit<RegistryOrigin, 'collection'>,
  content: string,
  credential: Credential | undefined,
): Asker {
  return { origin: { ...origin, collection: 'manifests' }, content, credential }
}

/** A page that says "200 OK" is no manifest. Throws MANIFEST_INVALID. */
function checkKind({ mediaType, body }: ManifestAnswer, reference: string): void {
  if (/^application\/[a-z0-9.+-]+$/i.test(mediaType)) return
  if (mediaType === '' && isJsonObject(body)) return
  throw new DarnerError(
    'MANIFEST_INVALID',
    `manifest ${reference}: what came is ${mediaType === '' ? 'no JSON, and of no type' : mediaType.slice(0, 120)}`,
  )
}

function isJsonObject(body: Uint8Array): boolean {
  try {
    const json: unknown = JSON.parse(Buffer.from(body).toString())
    return typeof json === 'object' && json !== null
  } catch {
    // SyntaxError
    return false
  }
}

const MAX_ACCEPT_CHARS = 16_384
const ASKED_FOR = new Set(MANIFEST_ACCEPT.split(', '))

function acceptedTypes(accept: string | undefined): string[] {
  return (accept ?? '')
    .slice(0, MAX_ACCEPT_CHARS)
    .split(',')
    .map((one) => bareMediaType(one))
    .filter((one) => one !== '')
}

/** Whether a client that sent this `Accept` takes a manifest of that type. */
export function accepts(accept: string | undefined, mediaType: string): boolean {
  const types = acceptedTypes(accept)
  return types.length === 0 || types.some((one) => one === mediaType || one === '*/*' || one === 'application/*')
}

function acceptsOthers(accept: string | undefined): boolean {
  return acceptedTypes(accept).some(
    (one) =>
      !ASKED_FOR.has(one) && one.startsWith('application/vnd.') && !/manifest\.v1(\+prettyjws|\+json)?$/.test(one),
  )
}
