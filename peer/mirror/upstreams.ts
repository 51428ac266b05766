/**
 * Which registry a request means: the `ns` query that containerd sends, else the first path components if they name a known upstream
 * (`/v2/quay.io/org/app/…`). Otherwise the default. The list is an allow-list: a name that isn't on it is never asked.
 */
import { DarnerError } from '../../src/core/errors.ts'
import { formatHostPort, type HostPort } from '../../src/core/host-port.ts'
import type { RegistryOrigin } from '../../src/core/task/origin.ts'

export interface Upstream {
  /** As people and `ns` name it: `docker.io`, `quay.io`, `127.0.0.1:5000`. */
  readonly name: string
  /** Base URL, without a slash at its end. */
  readonly url: string
}

/** Where a request goes, and how paths of that upstream are written for the client that asked. */
export interface Place {
  readonly upstream: Upstream
  readonly repository: string
  /** Present when the request named the upstream by `ns`. */
  readonly ns?: string
  /** The path components that named the upstream, with a slash at the end; empty when none did. */
  readonly prefix: string
}

/** What is served when no upstream is configured. */
export const DOCKER_HUB: Upstream = { name: 'docker.io', url: 'https://registry-1.docker.io' }
/** Other names of Docker Hub that clients send. */
const HUB_NAMES = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'])
/** Most path components that a name may have. */
const MAX_NAME_PARTS = 4

export class Upstreams {
  readonly #byName: ReadonlyMap<string, Upstream>
  /** Names with a port, as paths can hold them: `host_5000`. */
  readonly #byPath: ReadonlyMap<string, Upstream>
  readonly default: Upstream

  /** `configured` is NAME → URL in the order given; the first is the default. */
  constructor(configured: Readonly<Record<string, string>>) {
    const all = Object.entries(configured).map(([name, url]) => ({
      name: name.toLowerCase(),
      url: url.replace(/\/+$/, ''),
    }))
    this.#byName = new Map((all.length === 0 ? [DOCKER_HUB] : all).map((one) => [one.name, one]))
    this.#byPath = new Map(all.map((one) => [one.name.replaceAll(':', '_'), one]))
    this.default = all[0] ?? DOCKER_HUB
  }

  get all(): readonly Upstream[] {
    return [...this.#byName.values()]
  }

  /** The upstream of that name, Docker Hub's other names included. */
  find(name: string): Upstream | undefined {
    const wanted = name.toLowerCase()
    return this.#byName.get(wanted) ?? (HUB_NAMES.has(wanted) ? this.#byName.get('docker.io') : undefined)
  }

  /** The upstream that a client means by the host of a URL with this scheme: by its name, or by where it is. */
  atHost({ host, port }: HostPort, protocol: 'http:' | 'https:'): Upstream | undefined {
    const usual = protocol === 'https:' ? 443 : 80
    const named = (port === usual ? this.find(host) : undefined) ?? this.find(formatHostPort({ host, port }))
    if (named !== undefined && new URL(named.url).protocol === protocol) return named
    return this.all.find(({ url: text }) => {
      const url = new URL(text)
      const at = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
      return url.protocol === protocol && url.hostname.replace(/^\[|\]$/g, '') === host.toLowerCase() && at === port
    })
  }

  /**
   * Where a repository path (its components) leads. `docker` is a client of docker's own, which asks mirrors for Docker Hub's
   * images only and has no way to say so. Throws NOT_FOUND for an `ns` that is not on the list.
   */
  place(parts: readonly string[], ns: string | undefined, docker = false): Place {
    if (ns !== undefined) {
      const upstream = this.find(ns)
      if (upstream === undefined) throw unknownUpstream(ns)
      return { upstream, repository: repositoryAt(upstream, parts), ns, prefix: '' }
    }
    if (docker) {
      const hub = this.find('docker.io') ?? this.default
      return { upstream: hub, repository: repositoryAt(hub, parts), prefix: '' }
    }
    for (let count = Math.min(MAX_NAME_PARTS, parts.length - 1); count > 0; count--) {
      const name = parts.slice(0, count).join('/')
      const upstream = this.find(name) ?? this.#byPath.get(name)
      if (upstream !== undefined)
        return { upstream, repository: repositoryAt(upstream, parts.slice(count)), prefix: `${name}/` }
    }
    return { upstream: this.default, repository: repositoryAt(this.default, parts), prefix: '' }
  }
}

export function unknownUpstream(ns: string): DarnerError {
  return new DarnerError('NOT_FOUND', `this mirror does not reach the registry ${JSON.stringify(ns.slice(0, 120))}`, {
    way: `add --upstream ${/^[\w.:/-]{1,120}$/.test(ns) ? ns : 'NAME'}=URL to the agent`,
  })
}

/** The origin of a place's manifests. */
export function originAt({ upstream, repository }: Place): Omit<RegistryOrigin, 'collection'> {
  return { kind: 'registry', upstream: upstream.url, repository }
}

/** Docker Hub's official images may be named without their folder. */
function repositoryAt(upstream: Upstream, parts: readonly string[]): string {
  const bare = parts.length === 1 && upstream.url === DOCKER_HUB.url
  return bare ? `library/${parts[0]}` : parts.join('/')
}
