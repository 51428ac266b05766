/** Writes to registries (distribution-spec, "Push"): blobs in one request each, or mounted from another repository; manifests. */
import { Readable } from 'node:stream'
import type { Clock } from '../core/clock.ts'
import type { Digest } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { Credential } from '../core/task/origin.ts'
import { parseChallenges } from './auth-challenge.ts'
import { type AccessOptions, type ManifestOrigin, registryAsk } from './origin-ask.ts'
import { OriginSender, type SenderAsk } from './origin-sender.ts'
import { ORIGIN_DEFAULTS, type OriginClientOptions } from './registry-client.ts'

export interface PushedBlob {
  readonly digest: Digest
  readonly bytes: number
  /** A fresh reading of its bytes; called again when a registry asks for other rights first. */
  open(): AsyncIterable<Uint8Array>
  /** A repository of the same registry that has it. */
  readonly mountFrom?: string
}

/**
 * All calls throw what reading an origin throws: ORIGIN_UNREACHABLE, ORIGIN_UNAUTHORIZED, ORIGIN_DENIED, ORIGIN_FAILED and so on, or
 * the signal's reason. Dispose it to end what is under way.
 */
export class RegistryPusher implements AsyncDisposable {
  readonly #sender: OriginSender

  constructor(options: Partial<OriginClientOptions>, parts: { log: Log; clock: Clock }) {
    this.#sender = new OriginSender({ ...ORIGIN_DEFAULTS, ...options }, parts)
  }

  /** True when the repository has the blob. */
  async hasBlob(origin: ManifestOrigin, digest: Digest, options: AccessOptions): Promise<boolean> {
    const ask: SenderAsk = { ...registryAsk(origin, `blobs/${digest}`, '*/*', options), method: 'HEAD' }
    await using answer = await this.#sender.send(ask)
    if (answer.status === 200) return true
    // without the right to read, the write itself tells
    if (answer.status === 404 || answer.status === 401 || answer.status === 403) return false
    throw await this.#sender.refusal(ask, answer)
  }

  /** Puts a blob there, or has the registry take it from `mountFrom`. */
  async putBlob(origin: ManifestOrigin, blob: PushedBlob, options: AccessOptions): Promise<'mounted' | 'uploaded'> {
    const begin: SenderAsk = {
      ...registryAsk(origin, 'blobs/uploads/', '*/*', options),
      method: 'POST',
      body: () => '',
    }
    if (blob.mountFrom !== undefined) {
      begin.url.searchParams.set('mount', blob.digest)
      begin.url.searchParams.set('from', blob.mountFrom)
    }
    const opened = await this.#sender.accept(begin, [201, 202])
    const location = opened.header('location')
    const { status, url: from } = opened
    await opened.discard()
    if (status === 201) return 'mounted'
    const url = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from) : undefined
    if (url === undefined)
      throw new DarnerError('ORIGIN_FAILED', `push of ${blob.digest}: ${from.host} named no place for the upload`)
    url.searchParams.set('digest', blob.digest)
    const put: SenderAsk = {
      ...begin,
      method: 'PUT',
      url,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.bytes) },
      body: () => Readable.from(blob.open(), { objectMode: false }),
    }
    const done = await this.#sender.accept(put, [201, 204])
    await done.discard()
    return 'uploaded'
  }

  /** Puts a manifest under a tag or digest; what it names must be there. */
  async putManifest(
    origin: ManifestOrigin,
    reference: string,
    manifest: { readonly mediaType: string; readonly text: string },
    options: AccessOptions,
  ): Promise<void> {
    const ask: SenderAsk = {
      ...registryAsk(origin, `manifests/${reference}`, '*/*', options),
      method: 'PUT',
      body: () => manifest.text,
    }
    const done = await this.#sender.accept({ ...ask, headers: { 'content-type': manifest.mediaType } }, [201, 204])
    await done.discard()
  }

  /** Asks the registry whether it takes a credential. Throws ORIGIN_UNAUTHORIZED when it doesn't. */
  async checkLogin(upstream: string, credential: Credential, { signal }: { signal: AbortSignal }): Promise<void> {
    const ask: SenderAsk = {
      method: 'GET',
      url: new URL('/v2/', upstream),
      repository: undefined,
      credential: undefined,
      headers: { accept: 'application/json' },
      secretHeaders: {},
      signal,
    }
    const first = await this.#sender.send(ask)
    if (first.status === 200) return await first.discard()
    if (first.status !== 401) throw await this.#sender.refusal(ask, first)
    const challenges = parseChallenges(first.header('www-authenticate') ?? '')
    await first.discard()
    const bearer = challenges.find((one) => one.scheme === 'bearer')
    const realm = bearer?.parameters.get('realm')
    const url = realm !== undefined && URL.canParse(realm) ? new URL(realm) : ask.url
    if (ask.url.protocol === 'https:' && url.protocol !== 'https:')
      throw new DarnerError('ORIGIN_FORBIDDEN', `login: ${ask.url.host} named a token server without TLS, ${url.host}`)
    const service = bearer?.parameters.get('service')
    if (service !== undefined) url.searchParams.set('service', service)
    const answer = await this.#sender.accept({ ...ask, url, credential }, [200])
    await answer.discard()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender[Symbol.asyncDispose]()
  }
}
