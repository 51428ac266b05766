/**
 * A file: written beside its name and renamed when whole. The draft has one name per target, so that a killed run leaves what the next one
 * can go on with. One process at a time has it; others write drafts of their own that nobody goes on with.
 *
 * All calls wait in place: the command does nothing else meanwhile, and Node's promises for files cost each start 2 to 3 ms.
 */

import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lstatSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { Version } from '../../core/contracts/origin.ts'
import { DarnerError, systemCode } from '../../core/errors.ts'
import { cloneFile } from './clone-file.ts'
import { type DraftLock, takeDraft } from './draft-lock.ts'
import { CHUNK_BYTES, checkChunks, DraftNotes, MAX_NOTES_BYTES, type Note, parseNotes } from './draft-notes.ts'
import type { Target } from './target.ts'

/** Longest name, in bytes, that is part of the draft's; a longer one is hashed. */
const MAX_NAME_BYTES = 200

interface Draft {
  readonly fd: number
  readonly part: string
  /** Chunk hashes; undefined for a draft that no later run goes on with. */
  readonly notes: { readonly fd: number; readonly path: string } | undefined
  readonly lock: DraftLock | undefined
}

export class FileTarget implements Target {
  readonly name: string
  readonly inOrder = false
  readonly #path: string
  readonly #draft: Draft
  #notes: DraftNotes | undefined
  #at = 0
  #keep = false
  #done = false

  private constructor(name: string, path: string, draft: Draft) {
    this.name = name
    this.#path = path
    this.#draft = draft
  }

  /**
   * `name` must be no directory; a link is followed, and what it leads to replaced, unless it is to be replaced itself. Throws BAD_ARGUMENT
   * where nothing can be written.
   */
  static async open(name: string, { throughLinks = true }: { throughLinks?: boolean } = {}): Promise<FileTarget> {
    const path = throughLinks ? orElse(resolve(name), () => realpathSync.native(name)) : resolve(name)
    try {
      return new FileTarget(name, path, openDraft(path))
    } catch (error) {
      throw unopened(name, path, error)
    }
  }

  async kept(key: string, seen: (bytes: Uint8Array) => void): Promise<{ bytes: number; version: Version } | undefined> {
    const { notes } = this.#draft
    if (notes === undefined) return undefined
    const { size } = fstatSync(notes.fd)
    if (size === 0 || size > MAX_NOTES_BYTES) return undefined
    const known = parseNotes(readFileSync(notes.path, 'utf8'))
    if (known === undefined || known.note.key !== key) return undefined
    const chunks = checkChunks(this.#draft.fd, known.hashes, seen)
    const bytes = chunks * CHUNK_BYTES
    await this.restart(known.note, known.hashes.slice(0, chunks))
    return { bytes, version: known.note.version }
  }

  async restart(note?: Note, hashes: readonly string[] = []): Promise<void> {
    const { notes } = this.#draft
    this.#at = hashes.length * CHUNK_BYTES
    this.#notes = undefined
    saying(this.name, 'COMMAND_FAILED', () => {
      // ext4 writes out a file that was cut to nothing when it is closed, and lets the closer wait for that
      if (this.#at > 0 || fstatSync(this.#draft.fd).size > 0) ftruncateSync(this.#draft.fd, this.#at)
      if (notes === undefined) return
      ftruncateSync(notes.fd, 0)
      if (note === undefined) return
      const text = [JSON.stringify(note), ...hashes].join('\n')
      writeSync(notes.fd, `${text}\n`)
      this.#notes = new DraftNotes(notes.fd)
    })
  }

  write(bytes: Uint8Array, offset?: number): void {
    try {
      for (let done = 0; done < bytes.byteLength; )
        done += writeSync(this.#draft.fd, bytes, done, bytes.byteLength - done, (offset ?? this.#at) + done)
      if (offset !== undefined) return
      this.#at += bytes.byteLength
      this.#notes?.add(bytes)
    } catch (error) {
      throw written(this.name, 'COMMAND_FAILED', error)
    }
  }

  clone(from: number): boolean {
    return cloneFile(from, this.#draft.fd)
  }

  async finish({ mtimeMs }: { mtimeMs: number | undefined }): Promise<void> {
    const { fd, part } = this.#draft
    saying(this.name, 'COMMAND_FAILED', () => {
      const old = orElse(undefined, () => lstatSync(this.#path, { throwIfNoEntry: false }))
      if (old?.isFile()) takeAfter(fd, old)
      if (mtimeMs !== undefined) futimesSync(fd, new Date(), new Date(mtimeMs))
      renameSync(part, this.#path)
    })
    this.#done = true
  }

  keep(): void {
    this.#keep = this.#draft.notes !== undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { fd, part, notes, lock } = this.#draft
    const stays = this.#keep && !this.#done
    closeSync(fd)
    if (notes !== undefined) closeSync(notes.fd)
    if (!this.#done && !stays) orElse(undefined, () => unlinkSync(part))
    if (notes !== undefined && !stays) orElse(undefined, () => unlinkSync(notes.path))
    lock?.release()
  }
}

function openDraft(path: string): Draft {
  const base = basename(path)
  const short = Buffer.byteLength(base) > MAX_NAME_BYTES ? digestOf(base) : base
  const stem = join(dirname(path), `.${short}.darner`)
  const lock = takeDraft(`${stem}-lock`)
  if (lock === undefined) {
    const part = `${stem}-${process.pid}`
    return { fd: ownFile(part), part, notes: undefined, lock: undefined }
  }
  const [part, sums] = [`${stem}-part`, `${stem}-sums`]
  try {
    const fd = ownFile(part)
    try {
      return { fd, part, notes: { fd: ownFile(sums, constants.O_APPEND), path: sums }, lock }
    } catch (error) {
      closeSync(fd)
      throw error
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

function digestOf(text: string): string {
  return process.getBuiltinModule('node:crypto').createHash('sha256').update(text).digest('hex')
}

/** Opens or makes a file that is ours alone: no link that somebody put there, no second name, no other owner. */
function ownFile(path: string, more = 0): number {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  const seen = orElse(undefined, () => lstatSync(path, { throwIfNoEntry: false }))
  if (seen !== undefined) {
    if (seen.isFile() && seen.nlink === 1 && seen.uid === process.geteuid?.()) {
      const fd = openSync(path, O_RDWR | O_NOFOLLOW | more)
      const { dev, ino } = fstatSync(fd)
      if (dev === seen.dev && ino === seen.ino) return fd
      closeSync(fd)
    }
    unlinkSync(path)
  }
  return openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | more, 0o666)
}

/** As a program that writes into the old file would leave it: its mode and, where this process may, its owner. */
function takeAfter(fd: number, old: { mode: number; uid: number; gid: number }): void {
  const now = fstatSync(fd)
  // EPERM: then the new file is this user's own
  if (now.uid !== old.uid || now.gid !== old.gid) orElse(undefined, () => fchownSync(fd, old.uid, old.gid))
  // set-user-ID and its like were given to other bytes
  fchmodSync(fd, old.mode & 0o777)
}

/** What `work` returns, or `other` where the system refuses it. */
function orElse<T>(other: T, work: () => T): T {
  try {
    return work()
  } catch {
    return other
  }
}

function saying<T>(name: string, code: 'BAD_ARGUMENT' | 'COMMAND_FAILED', work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw written(name, code, error)
  }
}

/** A file that may be written where its folder may not: curl would write into it, here the draft has no place. */
function unopened(name: string, path: string, error: unknown): DarnerError {
  const failed = written(name, 'BAD_ARGUMENT', error)
  if (!['EACCES', 'EROFS'].includes(systemCode(error) ?? '') || !orElse(false, () => isWritable(path))) return failed
  return new DarnerError(failed.code, `${failed.message} for a draft beside it`, {
    cause: error,
    way: `write into it with -o - and a redirection`,
  })
}

function isWritable(path: string): boolean {
  accessSync(path, constants.W_OK)
  return true
}

function written(name: string, code: 'BAD_ARGUMENT' | 'COMMAND_FAILED', error: unknown): DarnerError {
  if (error instanceof DarnerError) return error
  const system = systemCode(error)
  const full = system === 'ENOSPC' || system === 'EDQUOT'
  return new DarnerError(full ? 'DISK_FULL' : code, `cannot write ${name}: ${system ?? String(error)}`, {
    cause: error,
    ...(system === 'ENOENT' ? { way: `its folder is not there: mkdir -p ${dirname(name)}` } : {}),
  })
}
