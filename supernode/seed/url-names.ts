/** What a URL's content is called: a task of its own per address and validator, believed for a while without asking again. */
import type { Clock } from '../../src/core/clock.ts'
import type { OriginPort, Version } from '../../src/core/contracts/origin.ts'
import { digestOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { type Origin, originName } from '../../src/core/task/origin.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { placeOf } from '../../src/rights/place.ts'
import type { SeedRequest } from './first-read.ts'

export class UrlNames {
  readonly #validatorMs: number
  readonly #parts: { readonly origin: OriginPort; readonly clock: Clock }
  readonly #urls = new Map<string, { id: TaskId; untilMs: number }>()

  /** `validatorMs`: how long a URL's validator is believed without asking again. */
  constructor(options: { validatorMs: number }, parts: { origin: OriginPort; clock: Clock }) {
    this.#validatorMs = options.validatorMs
    this.#parts = parts
  }

  /** What a request is shared by: its digest, or the URL. `stale` where the URL holds other content than it did. */
  async key(request: SeedRequest, { signal }: { signal: AbortSignal }): Promise<{ key: string; stale: boolean }> {
    if (request.digest !== undefined) return { key: request.digest, stale: false }
    const key = urlKey(request.origin)
    const known = this.#urls.get(key)
    const { clock, origin } = this.#parts
    if (known === undefined || known.untilMs > clock.monotonicMs()) return { key, stale: false }
    const version = await origin.stat({ origin: request.origin }, { credential: request.credential, signal })
    if (urlTaskId(request.origin, version) === known.id) {
      known.untilMs = clock.monotonicMs() + this.#validatorMs
      return { key, stale: false }
    }
    this.#urls.delete(key)
    return { key, stale: true }
  }

  /** For a while the URL is taken to hold this content without asking again. */
  believe(origin: Origin, id: TaskId): void {
    this.#urls.set(urlKey(origin), { id, untilMs: this.#parts.clock.monotonicMs() + this.#validatorMs })
  }

  /** Nothing that was believed to be this task is any more. */
  forget(id: TaskId): void {
    for (const [url, known] of this.#urls) if (known.id === id) this.#urls.delete(url)
  }
}

/** The task that this version of a URL's content is. */
export function urlTaskId(origin: Origin, version: Version): TaskId {
  const { etag = '', lastModified = '', bytes = -1 } = version
  const name = digestOf(JSON.stringify([urlKey(origin), etag, lastModified, bytes]))
  return `url:${name.slice('sha256:'.length)}` as TaskId
}

/** What of a URL request the content depends on. */
function urlKey(origin: Origin): string {
  if (origin.kind === 'registry')
    throw new DarnerError('BAD_ARGUMENT', `${originName(origin)}: a registry's blob is named by its digest`)
  const headers = Object.entries(origin.headers ?? {})
    .map(([name, value]) => [name.toLowerCase(), value])
    .sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
  return JSON.stringify([placeOf(origin), headers])
}
