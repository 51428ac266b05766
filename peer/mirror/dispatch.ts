/** Which part of the mirror answers which request, and what goes to the upstream as the client sent it. */
import type { IncomingMessage } from 'node:http'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { OriginHttp } from '../../src/origin/origin-http.ts'
import { sendWhole } from './answer.ts'
import type { Ask } from './ask.ts'
import type { Blobs } from './blobs.ts'
import type { MirrorManifests } from './manifests.ts'
import { askUpstream, relay } from './pass-through.ts'
import { type Pushed, pushedDigest } from './pushed.ts'
import { type Route, upstreamOf } from './routes.ts'
import { originAt, type Place, type Upstream, type Upstreams } from './upstreams.ts'

export const PULLS: ReadonlySet<string> = new Set(['GET', 'HEAD'])
const PUSHES: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

export interface DispatcherOptions {
  readonly push: 'refuse' | 'pass'
  readonly catalog: boolean
}

export interface DispatcherParts {
  readonly http: OriginHttp
  readonly upstreams: Upstreams
  readonly blobs: Blobs
  readonly manifests: MirrorManifests
  readonly pushed: Pushed
}

export class Dispatcher {
  readonly #options: DispatcherOptions
  readonly #parts: DispatcherParts

  constructor(options: DispatcherOptions, parts: DispatcherParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Throws what becomes the client's refusal. */
  async answer(route: Route, ask: Ask): Promise<void> {
    const method = ask.request.method ?? ''
    const pull = PULLS.has(method)
    if (!pull) {
      const pushable = route.kind === 'upload' || route.kind === 'manifest' || route.kind === 'blob'
      if (!PUSHES.has(method) || !pushable || this.#options.push === 'refuse') throw notAllowed(method)
    }
    const { http } = this.#parts
    switch (route.kind) {
      case 'base':
        return await this.#base(route.ns, ask)
      case 'catalog': {
        const upstream = upstreamOf(route.ns, this.#parts.upstreams)
        if (!this.#options.catalog)
          throw new DarnerError('ORIGIN_DENIED', 'this mirror does not show the catalogue of its upstreams')
        return await relay(ask, await askUpstream(http, ask, upstream, '_catalog'), spelling(upstream, route.ns))
      }
      case 'blob':
        if (!pull) return await this.#pass(ask, route.place, `blobs/${route.digest}`)
        if (ask.head) return await this.#parts.blobs.head(ask, route.place, route.digest)
        return await this.#parts.blobs.get(ask, route.place, route.digest)
      case 'manifest':
        if (!pull) return await this.#pushManifest(ask, route.place, route.reference)
        return await this.#parts.manifests.serve(ask, route.place, route.reference)
      case 'referrers':
        return await this.#pass(ask, route.place, `referrers/${route.digest}`)
      case 'tags':
        return await this.#pass(ask, route.place, 'tags/list')
      case 'upload':
        if (pull && this.#options.push === 'refuse') throw notAllowed(method)
        return await this.#upload(ask, route.place, route.id ?? '')
    }
  }

  async #pushManifest(ask: Ask, place: Place, reference: string): Promise<void> {
    const { http } = this.#parts
    const answer = await askUpstream(http, ask, place.upstream, `${place.repository}/manifests/${reference}`)
    if (answer.status < 300) this.#parts.manifests.changed(place, reference)
    await relay(ask, answer, place)
  }

  async #upload(ask: Ask, place: Place, id: string): Promise<void> {
    const answer = await askUpstream(this.#parts.http, ask, place.upstream, `${place.repository}/blobs/uploads/${id}`)
    const pushed = pushedDigest(ask.request.method, ask.query, answer.status)
    await relay(ask, answer, place)
    if (pushed !== undefined)
      this.#parts.pushed.take({ ...originAt(place), collection: 'blobs' }, pushed, ask.credential)
  }

  async #pass(ask: Ask, place: Place, path: string): Promise<void> {
    const answer = await askUpstream(this.#parts.http, ask, place.upstream, `${place.repository}/${path}`)
    await relay(ask, answer, place)
  }

  /**
   * `/v2/` answers which rights a client must get. So it is the upstream's own answer where it is clear which one is meant. That is by
   * `ns`, because there is only one, or from docker, whose mirrors are Docker Hub's. A client that will name the upstream in the path would
   * take one registry's challenge for another's. It learns that none is needed here, and is challenged per request.
   */
  async #base(ns: string | undefined, ask: Ask): Promise<void> {
    const docker = isDocker(ask.request)
    const upstream =
      docker && ns === undefined
        ? this.#parts.upstreams.place([''], ns, docker).upstream
        : upstreamOf(ns, this.#parts.upstreams)
    if (ns === undefined && this.#parts.upstreams.all.length > 1 && !docker)
      return sendWhole(ask.response, {
        status: 200,
        headers: { 'content-type': 'application/json' },
        body: '{}',
        head: ask.head,
      })
    try {
      await relay(ask, await askUpstream(this.#parts.http, ask, upstream, ''), spelling(upstream, ns))
    } catch (error) {
      // what the swarm holds can be had while the origin is down
      if (!isDarnerError(error, 'ORIGIN_UNREACHABLE', 'TIMED_OUT') || ask.response.headersSent) throw error
      sendWhole(ask.response, {
        status: 200,
        headers: {
          'content-type': 'application/json',
          warning: '111 darner "Revalidation Failed: the origin is down"',
        },
        body: '{}',
        head: ask.head,
      })
    }
  }
}

function spelling(upstream: Upstream, ns: string | undefined) {
  return { upstream, prefix: '', ...(ns === undefined ? {} : { ns }) }
}

/** docker's daemon as it calls itself: `docker/26.1.5 go/… UpstreamClient(…)`. */
export function isDocker(request: IncomingMessage): boolean {
  return /^docker\//.test(request.headers['user-agent'] ?? '')
}

function notAllowed(method: string): DarnerError {
  return new DarnerError('UNSUPPORTED', `${method.slice(0, 16)}: this mirror is for pulling only`)
}
