/** Reads a container's log: from the start, the last lines, or since a time; follows it across rotation until the container ends. */
import { type Stats, watch } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { systemCode } from '../../src/core/errors.ts'
import { LineCutter, type LogEntry, parseLogLine } from './log-lines.ts'

export interface LogQuery {
  /** Only the last lines; all when absent. */
  readonly tail?: number
  /** Only entries at or after this epoch time. */
  readonly sinceMs?: number
  /** Only entries at or before this epoch time; the first later one ends it. */
  readonly untilMs?: number
  /** Resolves when no more will be written; reading goes on until then and to the end of the file. Absent: don't follow. */
  readonly until?: Promise<unknown>
}

const BLOCK_BYTES = 64 * 1024
/** Rotated files are `log.1` (newest) to `log.N`. */
const MOST_ROTATED = 100
/** How often a file is looked for among the rotated ones, and the pause between. */
const LOOKS = 5
const LOOK_PAUSE_MS = 2

/** Entries in the order they were written. Rejects with the signal's reason on abort; a log that isn't there is empty. */
export async function* readLog(
  path: string,
  query: LogQuery,
  { signal }: { signal: AbortSignal },
): AsyncGenerator<LogEntry> {
  const since = query.sinceMs ?? Number.NEGATIVE_INFINITY
  const until = query.untilMs ?? Number.POSITIVE_INFINITY
  for await (const entry of rawEntries(path, query, signal)) {
    if (entry.timeMs > until) return
    if (entry.timeMs >= since) yield entry
  }
}

async function* rawEntries(path: string, query: LogQuery, signal: AbortSignal): AsyncGenerator<LogEntry> {
  await using changes = new Changes(path, query.until, signal)
  const files = await openAll(path)
  try {
    const start = query.tail === undefined ? { file: 0, offset: 0 } : await tailStart(files, query.tail)
    let current = files.at(-1)
    const found = files.slice() // what rotation adds while following is read there
    for (let at = start.file; at < found.length; at++) {
      const file = found[at]
      if (!file) continue
      const reader = new EntryReader(file, at === start.file ? start.offset : 0)
      yield* reader.rest(signal)
      if (at < found.length - 1 || query.until === undefined) continue
      yield* follow(path, reader, changes, (next) => files.push(next), signal)
    }
    if (current === undefined && query.until !== undefined) {
      current = await changes.appears(path)
      if (!current) return
      files.push(current)
      yield* follow(path, new EntryReader(current, 0), changes, (next) => files.push(next), signal)
    }
  } finally {
    await Promise.all(files.map((file) => file.close()))
  }
}

async function* follow(
  path: string,
  first: EntryReader,
  changes: Changes,
  own: (file: FileHandle) => void,
  signal: AbortSignal,
): AsyncGenerator<LogEntry> {
  let reader = first
  for (;;) {
    const last = changes.over
    yield* reader.rest(signal)
    const newer = await reader.successors(path)
    if (newer.length > 0) yield* reader.rest(signal) // what came between the last read and the rename
    for (const file of newer) own(file)
    for (const [at, file] of newer.entries()) {
      reader = new EntryReader(file, 0)
      if (at < newer.length - 1) yield* reader.rest(signal)
    }
    if (newer.length > 0) continue
    if (last) return
    await changes.next()
  }
}

class EntryReader {
  readonly #file: FileHandle
  readonly #cutter = new LineCutter()
  readonly #block = Buffer.alloc(BLOCK_BYTES)
  #offset: number

  constructor(file: FileHandle, offset: number) {
    this.#file = file
    this.#offset = offset
  }

  async *rest(signal: AbortSignal): AsyncGenerator<LogEntry> {
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead } = await this.#file.read(this.#block, 0, BLOCK_BYTES, this.#offset)
      if (bytesRead === 0) return
      this.#offset += bytesRead
      // a copy: the consumer may hold an entry while the block is read into again
      for (const line of this.#cutter.push(Buffer.from(this.#block.subarray(0, bytesRead)))) {
        const entry = parseLogLine(line)
        if (entry) yield entry
      }
    }
  }

  /**
   * The files that rotation put after this one, oldest first, the current one last; none when this still is the current. When
   * this one has been deleted meanwhile, those that are left: what was between them is gone.
   */
  async successors(path: string): Promise<FileHandle[]> {
    const mine = await this.#file.stat()
    for (let tries = 1; ; tries++) {
      const { newer, found } = await filesAfter(mine, path)
      if (found || newer.length === 0 || tries === LOOKS) return newer
      // names move one by one while the log is rotated: look again before taking this one for deleted
      await Promise.all(newer.map((file) => file.close()))
      await new Promise((resolve) => setTimeout(resolve, LOOK_PAUSE_MS))
    }
  }
}

async function filesAfter(mine: Stats, path: string): Promise<{ newer: FileHandle[]; found: boolean }> {
  const newer: FileHandle[] = []
  const seen = new Set<number>()
  for (let number = 0; number <= MOST_ROTATED; number++) {
    const file = await openMaybe(number === 0 ? path : `${path}.${number}`)
    if (!file) break
    const { ino, dev } = await file.stat()
    if (ino === mine.ino && dev === mine.dev) {
      await file.close()
      return { newer, found: true }
    }
    // rotated since the last look: the same file under its next name
    if (seen.has(ino)) await file.close()
    else newer.unshift(file)
    seen.add(ino)
  }
  return { newer, found: false }
}

/** Wakes a follower at changes in the log's folder and at the end. */
class Changes implements AsyncDisposable {
  readonly #signal: AbortSignal
  readonly #watcher: ReturnType<typeof watch> | undefined
  #changed = false
  #wake: (() => void) | undefined
  over = false

  constructor(path: string, until: Promise<unknown> | undefined, signal: AbortSignal) {
    this.#signal = signal
    if (until === undefined) return
    const name = basename(path)
    this.#watcher = watch(dirname(path), (_event, file) => {
      if (file === null || file === name) this.#notify()
    })
    this.#watcher.on('error', () => this.#notify())
    const finish = () => {
      this.over = true
      this.#notify()
    }
    until.then(finish, finish)
    signal.addEventListener('abort', finish, { once: true })
  }

  async next(): Promise<void> {
    if (!this.#changed && !this.over) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    this.#changed = false
    this.#signal.throwIfAborted()
  }

  /** The log, once there is one; undefined when the end came first. */
  async appears(path: string): Promise<FileHandle | undefined> {
    for (;;) {
      const over = this.over
      const file = await openMaybe(path)
      if (file || over) return file
      await this.next()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watcher?.close()
  }

  #notify(): void {
    this.#changed = true
    this.#wake?.()
    this.#wake = undefined
  }
}

/** The log's files, oldest first. */
async function openAll(path: string): Promise<FileHandle[]> {
  const current = await openMaybe(path)
  const files = current ? [current] : []
  for (let number = 1; number <= MOST_ROTATED; number++) {
    const rotated = await openMaybe(`${path}.${number}`)
    if (!rotated) break
    files.unshift(rotated)
  }
  return files
}

async function openMaybe(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

/** Where the last `lines` whole lines begin; a line that is still being written counts as one. */
async function tailStart(files: readonly FileHandle[], lines: number): Promise<{ file: number; offset: number }> {
  let left = lines
  for (let at = files.length - 1; at >= 0; at--) {
    const file = files[at]
    if (!file) continue
    const found = await lastLines(file, left)
    if (found.offset > 0 || found.lines >= left) return { file: at, offset: found.offset }
    left -= found.lines
  }
  return { file: 0, offset: 0 }
}

async function lastLines(file: FileHandle, wanted: number): Promise<{ lines: number; offset: number }> {
  const { size } = await file.stat()
  if (wanted === 0) return { lines: 0, offset: size }
  let counted = 0
  let tailBytes = Buffer.alloc(0)
  let at = size
  while (at > 0) {
    const from = Math.max(0, at - BLOCK_BYTES)
    const block = Buffer.alloc(at - from)
    await file.read(block, 0, block.byteLength, from)
    at = from
    let rest = Buffer.concat([block, tailBytes])
    // every whole line in `rest`, last first; the first piece may lack its beginning and waits for the block before
    for (;;) {
      const cut = rest.byteLength < 2 ? -1 : rest.lastIndexOf(0x0a, rest.byteLength - 2)
      if (cut < 0 && at > 0) break
      const line = rest.subarray(cut + 1)
      if (line.byteLength > 0 && parseLogLine(line)?.ends === true && ++counted > wanted) {
        return { lines: wanted, offset: at + rest.byteLength }
      }
      rest = rest.subarray(0, cut + 1)
      if (cut < 0) break
    }
    tailBytes = rest
  }
  return { lines: counted, offset: 0 }
}
