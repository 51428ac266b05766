/** Whether a registry is asked by https or by plain http: one rule for every command and for docker's API, docker's own. */
import { isDarnerError } from '../core/errors.ts'

/**
 * Plain: what a person calls plain, and where a configured upstream's URL is `http://`. On loopback https is tried first, then plain http.
 * Everything else is https.
 */
export class RegistrySchemes {
  readonly #plain: ReadonlySet<string>

  /** `upstreams` is the setting: NAME → URL. A name whose URL leads to another host is no reason to ask that name by plain http. */
  constructor(upstreams: Readonly<Record<string, string>> = {}) {
    const urls = Object.values(upstreams).filter((url) => url.startsWith('http://'))
    this.#plain = new Set(urls.map((url) => new URL(url).host))
  }

  /** Resolves with what `ask` does for the scheme that the registry speaks, and rejects with what its last try does. */
  async ask<T>(
    registry: string,
    { plainHttp, signal }: { plainHttp: boolean; signal: AbortSignal },
    ask: (plainHttp: boolean) => Promise<T>,
  ): Promise<T> {
    if (plainHttp || this.#plain.has(hostOf(registry))) return await ask(true)
    if (!isLoopback(registry)) return await ask(false)
    return await ask(false).catch((error: unknown) => {
      if (signal.aborted || !isDarnerError(error, 'ORIGIN_UNREACHABLE', 'ORIGIN_FAILED')) throw error
      return ask(true)
    })
  }
}

/** Without the port that http has anyway. */
function hostOf(registry: string): string {
  return URL.parse(`http://${registry}`)?.host ?? registry
}

/** Of a registry as references name it: HOST[:PORT]. */
export function isLoopback(registry: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i.test(registry)
}
