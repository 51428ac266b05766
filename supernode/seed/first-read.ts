/** The first read of a blob at an origin: without a credential first, so that it is known whether anybody may have it. */
import type { Clock, Random } from '../../src/core/clock.ts'
import type { OriginPort, OriginRead } from '../../src/core/contracts/origin.ts'
import type { Digest } from '../../src/core/digest.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { type Credential, type Origin, originName } from '../../src/core/task/origin.ts'
import { carriesRights } from '../../src/rights/place.ts'
import { TROUBLE } from '../../src/rights/right.ts'

/** What an asker says of a blob: where it is, what it should be, and with which rights it asks. */
export interface SeedRequest {
  readonly origin: Origin
  readonly digest?: Digest | undefined
  readonly bytes?: number | undefined
  readonly credential?: Credential | undefined
  /** Places that have given the asker other bytes under this digest. */
  readonly wrongAt?: readonly Origin[] | undefined
  /** The host that asks. */
  readonly by?: string | undefined
}

export interface FirstReadParts {
  readonly origin: OriginPort
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Milliseconds to wait before a read is tried again; undefined where trying again can't help. */
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
}

/**
 * An origin that answers nothing for so long in all is given up after its second attempt, however many more are allowed. Its waiting
 * readers get the error then. A pause that the origin asked for doesn't count.
 */
export const GIVE_UP_MS = 45_000

/** A refusal, after which one's own credential may do. FORBIDDEN: a token that anybody may have is given out where it may not be asked for. */
const REFUSED = ['ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_NOT_FOUND', 'ORIGIN_FORBIDDEN'] as const

/**
 * Opens the read; `open` where no credential was needed. An asker with a credential is asked for with it wherever the place gives
 * nothing without, be that a refusal, trouble or another content. What passes is tried again, `attempts` times in all, and no longer
 * than {@link GIVE_UP_MS}. Throws the origin's refusal of the asker's own credential. The caller closes the read.
 */
export async function firstRead(
  { origin, digest, bytes, credential }: SeedRequest,
  parts: FirstReadParts,
  options: { attempts: number; signal: AbortSignal },
): Promise<{ read: OriginRead; open: boolean }> {
  const { clock, random, retryMs, log } = parts
  const { attempts, signal } = options
  const target = { origin, ...(digest === undefined ? {} : { digest }) }
  let startedMs = clock.monotonicMs()
  for (let attempt = 1; ; attempt++) {
    try {
      const open = await anonymous()
      if (open !== undefined) return { read: open, open: !carriesRights(origin) }
      return { read: await parts.origin.read(target, { credential, signal }), open: false }
    } catch (error) {
      const late = attempt > 1 && clock.monotonicMs() - startedMs >= GIVE_UP_MS
      const waitMs = attempt >= attempts || late ? undefined : retryMs(error, attempt, random)
      if (waitMs === undefined) throw error
      log.warn({ origin: originName(origin), attempt, waitMs, error: (error as Error).message }, 'origin not read')
      await clock.sleep(waitMs, { signal })
      if (isDarnerError(error) && error.retryAfterMs !== undefined) startedMs += waitMs
    }
  }

  /** Undefined where the credential is to be tried. */
  async function anonymous(): Promise<OriginRead | undefined> {
    try {
      const read = await parts.origin.read(target, { signal })
      if (credential === undefined || bytes === undefined || read.bytes === bytes) return read
      // another content, or one that may be: strangers may get such an answer
      await read[Symbol.asyncDispose]()
    } catch (error) {
      if (credential === undefined || !isDarnerError(error, ...REFUSED, ...TROUBLE)) throw error
    }
    return undefined
  }
}

/**
 * An origin in trouble may be read by another host, if the blob's digest and length are known. Then what the origin serves without a
 * credential may be read that way. An asker with a credential can't be asked for there now, and goes itself. Throws `error` otherwise.
 */
export function unread(
  error: unknown,
  { origin, digest, bytes, credential }: SeedRequest,
): { read: undefined; open: true } {
  if (digest === undefined || bytes === undefined || credential !== undefined || carriesRights(origin)) throw error
  if (!isDarnerError(error, ...TROUBLE)) throw error
  return { read: undefined, open: true }
}
