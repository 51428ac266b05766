/**
 * LevelDB, made fit for a disk that fills up. A write that fails leaves half a record at the end of LevelDB's log, and whatever is
 * appended behind it is lost when the database is opened again, though each write succeeded. So after a failed write none is
 * taken until the log was replaced: what is in memory goes into a table, and a new log begins.
 */
import { readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'
import { DarnerError, systemCode } from '../core/errors.ts'

/** What a new log and the index need beside what the old log holds. */
const SPARE_BYTES = 1024 * 1024

/** How abstract-level asks its implementations to write, and what LevelDB has beside it; the types of `level` leave it out. */
interface Writing {
  _put(...args: unknown[]): Promise<void>
  _del(...args: unknown[]): Promise<void>
  _batch(...args: unknown[]): Promise<void>
  _chainedBatch(): unknown
  compactRange(start: string, end: string): Promise<void>
}
const level = Level.prototype as unknown as Writing
const abstract = Object.getPrototypeOf(Level.prototype) as Writing

/** All writes, those of sublevels too, throw DISK_FULL while there is no room; reads go on. Needs no opening anew after it. */
export class Database<V = string> extends Level<string, V> {
  #torn = false
  #mending: Promise<void> | undefined

  async _put(...args: unknown[]): Promise<void> {
    await this.#write(() => level._put.apply(this, args))
  }

  async _del(...args: unknown[]): Promise<void> {
    await this.#write(() => level._del.apply(this, args))
  }

  async _batch(...args: unknown[]): Promise<void> {
    await this.#write(() => level._batch.apply(this, args))
  }

  /** The one that comes back to {@link _batch}. */
  _chainedBatch(): unknown {
    return abstract._chainedBatch.call(this)
  }

  async #write(work: () => Promise<void>): Promise<void> {
    if (this.#torn) await this.#mended()
    try {
      await work()
    } catch (error) {
      this.#torn = true
      throw this.#told(error)
    }
    // another one failed meanwhile, and this one may stand behind it
    if (this.#torn) await this.#mended()
  }

  #mended(): Promise<void> {
    this.#mending ??= this.#mend().finally(() => {
      this.#mending = undefined
    })
    return this.#mending
  }

  async #mend(): Promise<void> {
    const before = await this.#logs()
    const held = await Promise.all(before.map(async (name) => (await stat(join(this.location, name))).size))
    const { bavail, bsize } = await statfs(this.location)
    // a table that can't be written whole would stop LevelDB until it is opened again
    if (bavail * bsize < held.reduce((sum, one) => sum + one, SPARE_BYTES)) throw this.#full()
    await level.compactRange.call(this, '', '')
    const after = await this.#logs()
    if (before.some((name) => after.includes(name))) throw this.#full()
    this.#torn = false
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
      way: 'free some room there; nothing else is needed',
    })
  }
}
