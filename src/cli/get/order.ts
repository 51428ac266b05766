/** What one `darner get` is to bring, and how: read from the arguments once, then passed inwards. */

import type { GetRequest } from '../../api/get-stream.ts'
import type { Credential, Origin } from '../../core/task/origin.ts'
import type { HostTls } from '../../origin/origin-connect.ts'

/** One content. */
export interface Order {
  readonly origin: Origin
  readonly digest?: string
  readonly bytes?: number
  readonly credential?: Credential
  /** For messages and progress: no secrets in it. */
  readonly title: string
  /** What `-O` calls the file; undefined where the source has no name for it. */
  readonly name: string | undefined
  /** Only the swarm can have it: there is no place to read it at. */
  readonly swarmOnly?: boolean
}

export type Range = NonNullable<GetRequest['range']>

export interface Ways {
  readonly range: Range | undefined
  readonly rateBytesPerSec: number | undefined
  /** Times that a failure which can pass is tried again; undefined for the default of the way that is taken. */
  readonly retries: number | undefined
  /** Goes on where an earlier run ended, after checking what it left. */
  readonly resume: boolean
  readonly priority: 'interactive' | 'background'
  readonly fromOrigin: 'never' | 'fallback' | 'only'
  readonly tls: HostTls | undefined
  readonly proxy: string | undefined
  /** The file gets the origin's time. */
  readonly remoteTime: boolean
}

/** Why this command reads the origin by itself, whatever agent there is; undefined when it need not. */
export function aloneBecause(ways: Ways): string | undefined {
  if (ways.fromOrigin === 'only') return '--from-origin only'
  if (ways.tls?.insecure === true) return '--insecure'
  if (ways.tls?.ca !== undefined) return '--cacert'
  return ways.proxy === undefined ? undefined : '--proxy'
}
