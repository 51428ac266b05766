/**
 * The last bytes of a stream, in memory, for readers that keep up with it: they need not wait for the disk. It comes in pages, each
 * of which is on its way to the disk as one; their memory is used again once nobody needs it.
 */
import type { PiecePool } from '../../src/store/partial/piece-pool.ts'

/** Kept for readers that are a little behind: more than the stream goes beyond a reader that it waits for, whole pages counted. */
const KEPT_BYTES = 2 * 1024 * 1024
/**
 * A stream whose full pages go so far beyond its foremost reader waits for it. More would push out of memory what that reader needs next.
 */
const AHEAD_BYTES = 512 * 1024
/** It waits no longer than this while no reader takes anything, and so often in all; slow readers have the disk. */
const PATIENCE_MS = 500
const MAX_VAIN = 4
/** What slow readers may hold of what was kept for longer; beyond, they read from the disk. */
const MAX_HELD_BYTES = 4 * 1024 * 1024
/**
 * Memory kept for what is read next: what five blobs at once take. With less, each took fresh memory all the time, of which a few MiB
 * make the garbage collector go through the whole heap.
 */
export const PAGES_KEPT_BYTES = 16 * 1024 * 1024

/** A part of the stream, in the order of the stream. */
export interface Page {
  /** Where it is in the blob. */
  readonly at: number
  readonly body: Uint8Array<ArrayBuffer>
}

/** Bytes that a reader uses until it disposes of them. */
export interface Lent extends Disposable {
  readonly bytes: Uint8Array
  /** They are the reader's for good: their memory is not used again. */
  keep(): void
}

/** A reader in the order of the stream. */
export interface Follower extends Disposable {
  /** It wants nothing before `at` any more. */
  moved(at: number): void
  /** Resolves when the stream is at `to`, or nothing more will come. Throws its signal's reason. One call at a time. */
  reached(to: number): Promise<void>
}

interface OpenPage extends Page {
  filled: number
  readers: number
  written: boolean
  /** Further behind than what is kept. */
  passed: boolean
  kept: boolean
}

export class Tail {
  readonly #pages: OpenPage[] = []
  /** For all that is read at once and one after the other. */
  readonly #memory: PiecePool
  readonly #patienceMs: number
  #end: number
  /** The end of the last full page. */
  #full: number
  #heldBytes = 0
  /** Up to where the stream shall come. */
  readonly #waiting = new Map<() => void, number>()
  /** Where they are. */
  readonly #followers = new Map<Follower, number>()
  /** Goes on with a stream that waits for them. */
  #goOn: (() => void) | undefined
  #late: NodeJS.Timeout | undefined
  #patient = true
  #vain = 0
  #closed = false
  readonly #proven = Promise.withResolvers<void>()
  #isProven = false

  /** `at` is where the stream begins in the blob. */
  constructor(at: number, memory: PiecePool, { patienceMs = PATIENCE_MS }: { patienceMs?: number } = {}) {
    this.#end = at
    this.#full = at
    this.#memory = memory
    this.#patienceMs = patienceMs
  }

  /** Where the next bytes go. */
  get end(): number {
    return this.#end
  }

  /** False once no more will come. */
  get growing(): boolean {
    return !this.#closed
  }

  /**
   * The stream went on: as much of `bytes` is taken, by copy, as the page in hand has room for. That page, and whether it is full now.
   * `pageBytes` says how long the next is to be.
   */
  push(bytes: Uint8Array, pageBytes: () => number): { taken: number; page: Page; full: boolean } {
    let page = this.#pages.at(-1)
    if (page === undefined || page.filled === page.body.byteLength) page = this.#open(pageBytes())
    const part = bytes.subarray(0, page.body.byteLength - page.filled)
    page.body.set(part, page.filled)
    page.filled += part.byteLength
    this.#end += part.byteLength
    const full = page.filled === page.body.byteLength
    if (full) {
      this.#full = this.#end
      this.#pass()
    }
    this.#wake()
    return { taken: part.byteLength, page, full }
  }

  /** A page is on the disk, or won't get there. */
  written(page: Page): void {
    const found = this.#pages.find((one) => one.at === page.at)
    if (found === undefined) return
    found.written = true
    this.#settle(found)
  }

  /** A reader that is at `at` now; with `pace` the stream waits for it. One listener for all of its waits: a wait comes with each chunk. */
  follow(at: number, { pace, signal }: { pace: boolean; signal: AbortSignal }): Follower {
    let waiting: PromiseWithResolvers<void> | undefined
    const wake = () => {
      this.#waiting.delete(wake)
      if (signal.aborted) waiting?.reject(signal.reason)
      else waiting?.resolve()
      waiting = undefined
    }
    signal.addEventListener('abort', wake, { once: true })
    const follower: Follower = {
      moved: (now) => {
        if (!pace) return
        this.#followers.set(follower, now)
        this.#patient = this.#vain < MAX_VAIN
        this.#near()
      },
      reached: async (to) => {
        signal.throwIfAborted()
        if (this.#closed || this.#end >= to) return
        waiting = Promise.withResolvers()
        this.#waiting.set(wake, to)
        await waiting.promise
      },
      [Symbol.dispose]: () => {
        signal.removeEventListener('abort', wake)
        this.#followers.delete(follower)
        this.#near()
      },
    }
    if (pace) this.#followers.set(follower, at)
    return follower
  }

  /** True while the stream waits for one reader, and for no other, and that one is near enough to have from memory what comes. */
  get onlyOneNear(): boolean {
    const [at, ...others] = this.#followers.values()
    return at !== undefined && others.length === 0 && this.#end - at <= KEPT_BYTES
  }

  /** True while the stream had better wait for its foremost reader, which would have to read from the disk what came meanwhile. */
  get ahead(): boolean {
    if (!this.#patient || this.#followers.size === 0) return false
    // of a page that isn't full, the disk gives nothing
    for (const at of this.#followers.values()) if (this.#full - at <= AHEAD_BYTES) return false
    return true
  }

  /** Resolves when it is no longer {@link ahead}, or no reader took anything for long. */
  async paced(): Promise<void> {
    if (!this.ahead) return
    const moved = Promise.withResolvers<void>()
    this.#goOn = moved.resolve
    this.#late = setTimeout(() => {
      this.#patient = false
      this.#vain++
      moved.resolve()
    }, this.#patienceMs)
    await moved.promise
    this.#goOn = undefined
    clearTimeout(this.#late)
  }

  /** All has come, and is what was asked for, be it on the disk yet or not. */
  prove(): void {
    this.#isProven = true
    this.#proven.resolve()
  }

  get proven(): boolean {
    return this.#isProven
  }

  /** Resolves once it is {@link proven}, which may be never. */
  get whenProven(): Promise<void> {
    return this.#proven.promise
  }

  /** Nothing more comes by this way, be it whole or not. */
  close(): void {
    this.#closed = true
    this.#pass(0)
    this.#wake()
  }

  /** The bytes from `at` on, as far as they are in one page. Undefined where they are elsewhere, or by now on the disk only. */
  from(at: number): Lent | undefined {
    if (at >= this.#end) return undefined
    const page = this.#pages.findLast((one) => one.at <= at)
    if (page === undefined || at >= page.at + page.filled) return undefined
    if (page.passed && page.written) return undefined
    if (this.#heldBytes >= MAX_HELD_BYTES) return undefined
    page.readers++
    let over = false
    return {
      bytes: page.body.subarray(at - page.at, page.filled),
      keep: () => {
        page.kept = true
      },
      [Symbol.dispose]: () => {
        if (over) return
        over = true
        page.readers--
        this.#settle(page)
      },
    }
  }

  #open(bytes: number): OpenPage {
    const body = this.#memory.get(bytes)
    const page = { at: this.#end, body, filled: 0, readers: 0, written: false, passed: false, kept: false }
    this.#pages.push(page)
    return page
  }

  /** What is too far behind now is for slow readers and the disk only. */
  #pass(keptBytes = KEPT_BYTES): void {
    for (const page of [...this.#pages]) {
      if (page.at + page.body.byteLength + keptBytes > this.#end) break
      if (page.passed) continue
      page.passed = true
      this.#heldBytes += page.body.byteLength
      this.#settle(page)
    }
  }

  #settle(page: OpenPage): void {
    if (!page.passed || !page.written || page.readers > 0) return
    const at = this.#pages.indexOf(page)
    if (at < 0) return
    this.#pages.splice(at, 1)
    this.#heldBytes -= page.body.byteLength
    if (!page.kept) this.#memory.put(page.body)
  }

  #near(): void {
    if (this.#goOn === undefined) return
    if (this.ahead) this.#late?.refresh()
    else this.#goOn()
  }

  #wake(): void {
    for (const [wake, to] of this.#waiting) if (this.#closed || this.#end >= to) wake()
  }
}
