/**
 * The one type that carries a right, and the one module that makes it. A right says: this asker's own credential was accepted,
 * by this place, for this content of this length, at this time. Whatever leaves a daemon leaves for a right.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/clock.ts'
import { type Code, isDarnerError } from '../core/errors.ts'
import { abortable } from '../core/signals.ts'
import type { Credential, Origin } from '../core/task/origin.ts'
import type { Place } from '../core/task/place.ts'
import { upTo } from '../core/up-to.ts'
import { ANYBODY, CredentialNames } from './credential-names.ts'
import { PUT_PLACE, placeOf } from './place.ts'

declare const made: unique symbol

/** Only {@link Rights} makes one. */
export interface Right {
  readonly [made]: true
  readonly place: Place
  /** Digest or task of the content. */
  readonly content: string
  /** How long the content is that the place said yes for; undefined where that wasn't known. */
  readonly bytes: number | undefined
  /** The place asked for no credential. */
  readonly anybody: boolean
  /** When the place said yes, in epoch milliseconds. */
  readonly atMs: number
}

/** The asker, with what it asks for and where. */
export interface Asker {
  readonly origin: Origin
  /** Digest or task of the content. */
  readonly content: string
  /** How long it is: a yes for one length is none for another, as the place may have spoken of something else. */
  readonly bytes?: number | undefined
  readonly credential?: Credential | undefined
  /** A preheat whose credential, which only the supernode has, is the asker's. */
  readonly preheat?: string | undefined
}

/** Whose yes it was, where that isn't the asker's own. */
export interface Accepted {
  readonly place?: Place
  readonly anybody?: boolean
}

/** How long a yes is kept without asking again. */
export const RIGHT_MS = 5 * 60_000
/** While a place is in trouble, the last yes to the same asker for the same content counts for so long. */
export const TROUBLE_MS = 24 * 3_600_000

/** Answers that say nothing about rights: the place is down, busy or broken. */
export const TROUBLE = [
  'ORIGIN_UNREACHABLE',
  'ORIGIN_FAILED',
  'ORIGIN_BUSY',
  'ORIGIN_TRUNCATED',
  'TIMED_OUT',
] as const satisfies readonly Code[]

const MAX_KEPT = 65_536

export class Rights {
  readonly #clock: Clock
  readonly #names = new CredentialNames()
  /** By asker. */
  readonly #kept = new LRUCache<string, Right>(upTo(MAX_KEPT))
  readonly #asking = new Map<string, Promise<Right>>()

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock
  }

  /** A name for askers with this credential. */
  nameOf(credential: Credential | undefined): string {
    return this.#names.of(credential)
  }

  /** The right that an asker has shown lately, or that anybody has. */
  known(asker: Asker): Right | undefined {
    return this.#fresh(this.#key(asker)) ?? this.#fresh(this.#key(unnamed(asker)))
  }

  /**
   * The right of an asker: the one shown lately, or the result of `ask`. That resolves if the place accepts this very asker and throws its
   * refusal. Concurrent askers of the same share one question; an asker that goes away ends it for no other. Trouble at the place leaves an
   * asker what it had, and gives nothing else: then `ask`'s error is thrown.
   */
  async show(asker: Asker, ask: () => Promise<Accepted>, { signal }: { signal: AbortSignal }): Promise<Right> {
    const known = this.known(asker)
    if (known !== undefined) return known
    const key = this.#key(asker)
    let asking = this.#asking.get(key)
    if (asking === undefined) {
      asking = this.#ask(key, asker, ask).finally(() => this.#asking.delete(key))
      this.#asking.set(key, asking)
      asking.catch(() => {})
    }
    return await abortable(asking, signal)
  }

  /** The place has just served, or answered, this asker itself. */
  accepted(asker: Asker, { place, anybody }: Accepted = {}): Right {
    const right = {
      place: place ?? placeOf(asker.origin),
      content: asker.content,
      bytes: asker.bytes,
      anybody: anybody ?? this.#whoOf(asker) === ANYBODY,
      atMs: this.#clock.now(),
    } as Right
    this.#kept.set(this.#key(asker), right)
    return right
  }

  /** What a place said to anybody at `atMs`, as an earlier process noted it: it counts while the place is in trouble. */
  remember(asker: Asker, atMs: number): void {
    const key = this.#key(unnamed(asker))
    if (this.#kept.has(key)) return
    const { content, bytes } = asker
    const right = { place: placeOf(asker.origin), content, bytes, anybody: true, atMs } as Right
    this.#kept.set(key, right)
  }

  /** What a host has put into the swarm is every admitted host's. */
  put(content: string, bytes: number | undefined): Right {
    return { place: PUT_PLACE, content, bytes, anybody: true, atMs: this.#clock.now() } as Right
  }

  async #ask(key: string, asker: Asker, ask: () => Promise<Accepted>): Promise<Right> {
    try {
      return this.accepted(asker, await ask())
    } catch (error) {
      const before = this.#kept.get(key)
      if (isDarnerError(error, ...TROUBLE)) {
        if (before !== undefined && this.#ageMs(before) < TROUBLE_MS) return before
      } else if (before !== undefined) this.#kept.delete(key)
      throw error
    }
  }

  #fresh(key: string): Right | undefined {
    const right = this.#kept.get(key)
    return right !== undefined && this.#ageMs(right) < RIGHT_MS ? right : undefined
  }

  /** A clock that was set back makes nothing young. */
  #ageMs({ atMs }: Right): number {
    const age = this.#clock.now() - atMs
    return age < 0 ? Number.POSITIVE_INFINITY : age
  }

  #whoOf({ credential, preheat }: Asker): string {
    return preheat === undefined ? this.#names.of(credential) : `preheat ${preheat}`
  }

  #key(asker: Asker): string {
    return `${placeOf(asker.origin)} ${asker.content} ${asker.bytes ?? '-'} ${this.#whoOf(asker)}`
  }
}

function unnamed({ origin, content, bytes }: Asker): Asker {
  return { origin, content, bytes }
}
