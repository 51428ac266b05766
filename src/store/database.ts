/**
 * LevelDB, made fit for a disk that fills up. A failed write leaves half a record at the end of LevelDB's log. Whatever is appended behind
 * it is lost at the next opening, though each write succeeded. So after a failed write none is accepted until the log is replaced. The
 * contents of memory go into a table, and a new log begins.
 *
 * Writes that must succeed on a full disk (removals, and those marked `reserved`) have space of their own. The log takes its space when it
 * begins, and a reserve beside it is given up for the table and the next log. All other writes are refused in time.
 */
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type DatabaseOptions, Level } from 'level'
import { DarnerError, isDarnerError, systemCode } from '../core/errors.ts'
import { fitting, hasRoom, Reserve, roomIn, setAsideIn } from './reserve.ts'

/** What a new log and the index need beside what the old log holds; what is left by writes that aren't `reserved`. */
const SPARE_BYTES = 1024 * 1024
/** A new log begins once so much was written to the old one. */
const TURN_BYTES = 4 * 1024 * 1024
/** What a record takes of a log beside its key and value. */
const RECORD_BYTES = 64
/** The place that a log has: records are written beside the turn to the next. */
const LOG_BYTES = TURN_BYTES + 512 * 1024
/** LevelDB itself would begin a new log without a look at the disk, and be stopped by one that is full: never before we do. */
const BUFFER_BYTES = 16 * 1024 * 1024
/** A table of what a log holds, and the next log. */
const RESERVE_BYTES = 8 * 1024 * 1024

/** How abstract-level asks its implementations to write, and what LevelDB has beside it; the types of `level` leave it out. */
interface Writing {
  _open(...args: unknown[]): Promise<void>
  _put(...args: unknown[]): Promise<void>
  _del(...args: unknown[]): Promise<void>
  _batch(...args: unknown[]): Promise<void>
  _chainedBatch(): unknown
  compactRange(start: string, end: string): Promise<void>
}
const level = Level.prototype as unknown as Writing
const abstract = Object.getPrototypeOf(Level.prototype) as Writing

/** An option of writes: it is made on a full disk as well. */
export interface Reserved {
  readonly reserved?: boolean
}

/** All writes, those of sublevels too, throw DISK_FULL while there is no room for them; reads go on. Needs no opening anew after it. */
export class Database<V = string> extends Level<string, V> {
  #torn = false
  #mending: Promise<void> | undefined
  /** Made when it opens: LevelDB's constructor begins that itself. */
  #reserve: Reserve | undefined
  /** Written to the log. */
  #written = 0

  constructor(location: string, options?: DatabaseOptions<string, V>) {
    super(location, { ...options, writeBufferSize: BUFFER_BYTES } as DatabaseOptions<string, V>)
  }

  async _open(...args: unknown[]): Promise<void> {
    await mkdir(this.location, { recursive: true })
    this.#reserve = new Reserve(join(this.location, 'reserve'), RESERVE_BYTES)
    // what the log holds goes into a table
    const back = !(await hasRoom(this.location, (await this.#heldByLogs()) + SPARE_BYTES))
    if (back) await this.#reserve.giveUp()
    await level._open.apply(this, args)
    await this.#placeLog({ back })
  }

  async _put(...args: unknown[]): Promise<void> {
    const [key, value, options] = args
    await this.#write(() => level._put.apply(this, args), lengthOf(key) + lengthOf(value), isReserved(options))
  }

  async _del(...args: unknown[]): Promise<void> {
    await this.#write(() => level._del.apply(this, args), lengthOf(args[0]), true)
  }

  async _batch(...args: unknown[]): Promise<void> {
    const [operations, options] = args as [{ type: string; key: unknown; value?: unknown }[], unknown]
    const bytes = operations.reduce((sum, { key, value }) => sum + lengthOf(key) + lengthOf(value), 0)
    const removes = operations.every((one) => one.type === 'del')
    await this.#write(() => level._batch.apply(this, args), bytes, removes || isReserved(options))
  }

  /** The one that comes back to {@link _batch}. */
  _chainedBatch(): unknown {
    return abstract._chainedBatch.call(this)
  }

  async #write(work: () => Promise<void>, bytes: number, reserved: boolean): Promise<void> {
    if (!reserved && roomIn(this.location) < SPARE_BYTES + bytes) throw this.#full()
    for (let again = reserved; ; again = false) {
      if (this.#torn) await this.#mended()
      try {
        await work()
        break
      } catch (error) {
        this.#torn = true
        const told = this.#told(error)
        if (!again || !(told instanceof DarnerError)) throw told
      }
    }
    // another one failed meanwhile, and this one may stand behind it
    if (this.#torn) await this.#mended()
    this.#written += bytes + RECORD_BYTES
    if (this.#written > TURN_BYTES)
      await this.#mended().catch(unlessFull) // the next one tries again
    else if (this.#reserve?.held === false) await this.#reserve.take(this.location)
  }

  /** The log has its place, and the reserve its room: as far as there is some. */
  async #placeLog(how: { back: boolean }): Promise<void> {
    this.#written = 0
    const log = (await this.#logs()).sort().at(-1)
    const bytes = fitting(LOG_BYTES, this.location)
    // short room that others gave up is theirs; without its place the log is mended by the reserve
    if (!how.back && roomIn(this.location) < 2 * bytes) return
    if (log !== undefined) await setAsideIn(join(this.location, log), bytes).catch(() => false)
    await this.#reserve?.take(this.location, how)
  }

  #mended(): Promise<void> {
    this.#mending ??= this.#mend().finally(() => {
      this.#mending = undefined
    })
    return this.#mending
  }

  async #mend(): Promise<void> {
    const before = await this.#logs()
    const needed = (await this.#heldByLogs()) + SPARE_BYTES
    if (!(await hasRoom(this.location, needed))) await this.#reserve?.giveUp()
    // a table that can't be written whole would stop LevelDB until it is opened again
    if (!(await hasRoom(this.location, needed))) throw this.#full()
    await level.compactRange.call(this, '', '')
    const after = await this.#logs()
    if (before.some((name) => after.includes(name))) throw this.#full()
    this.#torn = false
    await this.#placeLog({ back: true })
  }

  async #heldByLogs(): Promise<number> {
    const logs = await this.#logs()
    const held = await Promise.all(logs.map(async (name) => (await stat(join(this.location, name))).size))
    return held.reduce((sum, one) => sum + one, 0)
  }

  async #logs(): Promise<string[]> {
    return (await readdir(this.location)).filter((name) => name.endsWith('.log'))
  }

  #told(error: unknown): unknown {
    const text = error instanceof Error ? error.message : ''
    const full = /No space left on device|Disk quota exceeded/.test(text)
    return full || systemCode(error) === 'ENOSPC' ? this.#full(error) : error
  }

  #full(cause?: unknown): DarnerError {
    return new DarnerError('DISK_FULL', `write to ${this.location}: no space left`, {
      ...(cause === undefined ? {} : { cause }),
      way: 'free some space there; darner then goes on by itself',
    })
  }
}

/** Lets DISK_FULL pass. */
function unlessFull(error: unknown): void {
  if (!isDarnerError(error, 'DISK_FULL')) throw error
}

function isReserved(options: unknown): boolean {
  return (options as Reserved | undefined)?.reserved === true
}

function lengthOf(part: unknown): number {
  return typeof part === 'string' || part instanceof Uint8Array ? part.length : 0
}
