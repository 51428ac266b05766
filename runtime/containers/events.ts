/** What happened on this host, in order: the last events in memory and in a file, so that they outlive the agent. */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemCode } from '../../src/core/errors.ts'
import { Feed } from '../../src/core/feed.ts'
import { writeWhole } from '../shim/bundle.ts'
import type { ContainerRecord } from './record.ts'

export interface EngineEvent {
  readonly type: 'container' | 'image' | 'volume' | 'network'
  /** As docker names it: `create`, `start`, `die`, `health_status: healthy`. */
  readonly action: string
  readonly id: string
  readonly attributes: Readonly<Record<string, string>>
  /** Epoch milliseconds; a fraction keeps events of one millisecond in order. */
  readonly timeMs: number
}

/** Where parts of the engine tell what they did. */
export interface EventSink {
  emit(event: Omit<EngineEvent, 'timeMs'>): void
}

/** What events say of a container: its labels, then its image and name. */
export function attributesOf(
  record: ContainerRecord,
  more: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return { ...record.request.labels, ...more, image: record.request.image, name: record.name }
}

export const SILENT_EVENTS: EventSink = { emit: () => {} }

/** Events that a slow follower may leave unread. */
const MOST_UNREAD = 100_000

export class EventLog implements EventSink, AsyncDisposable {
  readonly #path: string
  readonly #keep: number
  readonly #now: () => number
  #ring: EngineEvent[] = []
  #inFile = 0
  #lastMs = 0
  #queue: string[] = []
  #writing: Promise<void> | undefined
  readonly #followers = new Set<Feed<EngineEvent>>()

  private constructor(path: string, options: { keep: number; now: () => number }) {
    this.#path = path
    this.#keep = options.keep
    this.#now = options.now
  }

  /** Reads what was kept; lines that can't be read, as a torn last one, are left out. */
  static async open(path: string, options: { keep: number; now: () => number }): Promise<EventLog> {
    const log = new EventLog(path, options)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return ''
      throw error
    })
    for (const line of text.split('\n')) {
      try {
        if (line !== '') log.#ring.push(JSON.parse(line) as EngineEvent)
      } catch {
        // SyntaxError: torn by the end of an agent
      }
    }
    log.#ring = log.#ring.slice(-options.keep)
    log.#lastMs = log.#ring.at(-1)?.timeMs ?? 0
    await log.#rewrite().catch(() => {}) // a full disk must not stop an agent either
    return log
  }

  emit(event: Omit<EngineEvent, 'timeMs'>): void {
    this.#lastMs = Math.max(this.#now(), this.#lastMs + 0.001)
    const whole: EngineEvent = { ...event, timeMs: this.#lastMs }
    this.#ring.push(whole)
    if (this.#ring.length > this.#keep) this.#ring.shift()
    for (const feed of this.#followers) feed.push(whole)
    this.#queue.push(`${JSON.stringify(whole)}\n`)
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
    })
  }

  /** Kept events between the two times, then, unless `untilMs` has passed, what comes until then or until the abort. */
  async *read(query: { sinceMs?: number; untilMs?: number; signal: AbortSignal }): AsyncGenerator<EngineEvent> {
    const { sinceMs = Number.POSITIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY, signal } = query
    const past = this.#ring.filter((one) => one.timeMs >= sinceMs && one.timeMs <= untilMs)
    const feed = new Feed<EngineEvent>(MOST_UNREAD)
    this.#followers.add(feed)
    const end = () => feed.end()
    const leftMs = untilMs - this.#now()
    const timer =
      Number.isFinite(untilMs) && leftMs > 0 ? setTimeout(end, Math.min(leftMs, 2 ** 31 - 1)).unref() : undefined
    signal.addEventListener('abort', end, { once: true })
    try {
      yield* past
      if (leftMs <= 0 || signal.aborted) return
      for await (const one of feed) yield one
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      this.#followers.delete(feed)
    }
  }

  /** Writes what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const feed of this.#followers) feed.end()
    await this.#writing
  }

  async #write(): Promise<void> {
    while (this.#queue.length > 0) {
      const lines = this.#queue
      this.#queue = []
      // events are a convenience: a full disk must not stop a container
      await appendFile(this.#path, lines.join(''), { mode: 0o600 }).catch(() => {})
      this.#inFile += lines.length
      if (this.#inFile > this.#keep * 2) await this.#rewrite().catch(() => {})
    }
  }

  async #rewrite(): Promise<void> {
    const lines = this.#ring.map((one) => `${JSON.stringify(one)}\n`)
    await writeWhole(this.#path, lines.join(''))
    this.#inFile = lines.length
  }
}
