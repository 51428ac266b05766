/**
 * A file: written beside its name and renamed when whole. The draft has one name per target, so that a killed run leaves what the
 * next one can go on with; one process at a time has it, others write drafts of their own that nobody goes on with.
 */

import { constants, ftruncateSync, writeSync } from 'node:fs'
import { type FileHandle, lstat, open, readFile, realpath, rename, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { DarnerError, systemCode } from '../../base/errors.ts'
import type { Version } from '../../contracts/origin.ts'
import { type DraftLock, takeDraft } from './draft-lock.ts'
import { CHUNK_BYTES, checkChunks, DraftNotes, MAX_NOTES_BYTES, type Note, parseNotes } from './draft-notes.ts'
import type { Target } from './target.ts'

/** Longest name, in bytes, that is part of the draft's; a longer one is hashed. */
const MAX_NAME_BYTES = 200

interface Draft {
  readonly file: FileHandle
  readonly part: string
  /** Chunk hashes; undefined for a draft that no later run goes on with. */
  readonly notes: { readonly file: FileHandle; readonly path: string } | undefined
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

  /** `name` must be no directory; a link is followed, and what it leads to replaced. Throws BAD_ARGUMENT where nothing can be written. */
  static async open(name: string): Promise<FileTarget> {
    const path = await realpath(name).catch(() => resolve(name))
    return await saying(name, 'BAD_ARGUMENT', async () => new FileTarget(name, path, await openDraft(path)))
  }

  get fd(): number {
    return this.#draft.file.fd
  }

  async kept(key: string, seen: (bytes: Uint8Array) => void): Promise<{ bytes: number; version: Version } | undefined> {
    const { notes } = this.#draft
    if (notes === undefined) return undefined
    const { size } = await notes.file.stat()
    if (size === 0 || size > MAX_NOTES_BYTES) return undefined
    const known = parseNotes(await readFile(notes.path, 'utf8'))
    if (known === undefined || known.note.key !== key) return undefined
    const chunks = checkChunks(this.fd, known.hashes, seen)
    const bytes = chunks * CHUNK_BYTES
    await this.restart(known.note, known.hashes.slice(0, chunks))
    return { bytes, version: known.note.version }
  }

  async restart(note?: Note, hashes: readonly string[] = []): Promise<void> {
    const { notes } = this.#draft
    this.#at = hashes.length * CHUNK_BYTES
    this.#notes = undefined
    await saying(this.name, 'COMMAND_FAILED', async () => {
      ftruncateSync(this.fd, this.#at)
      if (notes === undefined) return
      ftruncateSync(notes.file.fd, 0)
      if (note === undefined) return
      const text = [JSON.stringify(note), ...hashes].join('\n')
      writeSync(notes.file.fd, `${text}\n`)
      this.#notes = new DraftNotes(notes.file.fd)
    })
  }

  write(bytes: Uint8Array, offset?: number): void {
    try {
      for (let done = 0; done < bytes.byteLength; )
        done += writeSync(this.fd, bytes, done, bytes.byteLength - done, (offset ?? this.#at) + done)
      if (offset !== undefined) return
      this.#at += bytes.byteLength
      this.#notes?.add(bytes)
    } catch (error) {
      throw written(this.name, 'COMMAND_FAILED', error)
    }
  }

  async finish({ mtimeMs }: { mtimeMs: number | undefined }): Promise<void> {
    const { file, part } = this.#draft
    await saying(this.name, 'COMMAND_FAILED', async () => {
      const old = await stat(this.#path).catch(() => undefined)
      if (old?.isFile()) await takeAfter(file, old)
      if (mtimeMs !== undefined) await file.utimes(new Date(), new Date(mtimeMs))
      await rename(part, this.#path)
    })
    this.#done = true
  }

  keep(): void {
    this.#keep = this.#draft.notes !== undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { file, part, notes, lock } = this.#draft
    const stays = this.#keep && !this.#done
    await file.close()
    await notes?.file.close()
    if (!this.#done && !stays) await unlink(part).catch(() => {})
    if (notes !== undefined && !stays) await unlink(notes.path).catch(() => {})
    await lock?.release()
  }
}

async function openDraft(path: string): Promise<Draft> {
  const base = basename(path)
  const short = Buffer.byteLength(base) > MAX_NAME_BYTES ? digestOf(base) : base
  const stem = join(dirname(path), `.${short}.darner`)
  const lock = await takeDraft(`${stem}-lock`)
  if (lock === undefined) {
    const part = `${stem}-${process.pid}`
    return { file: await ownFile(part), part, notes: undefined, lock: undefined }
  }
  const [part, path2] = [`${stem}-part`, `${stem}-sums`]
  try {
    const file = await ownFile(part)
    try {
      return { file, part, notes: { file: await ownFile(path2, constants.O_APPEND), path: path2 }, lock }
    } catch (error) {
      await file.close()
      throw error
    }
  } catch (error) {
    await lock.release()
    throw error
  }
}

function digestOf(text: string): string {
  return process.getBuiltinModule('node:crypto').createHash('sha256').update(text).digest('hex')
}

/** Opens or makes a file that is ours alone: no link that somebody put there, no second name, no other owner. */
async function ownFile(path: string, more = 0): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  const seen = await lstat(path).catch(() => undefined)
  if (seen !== undefined) {
    if (seen.isFile() && seen.nlink === 1 && seen.uid === process.geteuid?.()) {
      const file = await open(path, O_RDWR | O_NOFOLLOW | more)
      const { dev, ino } = await file.stat()
      if (dev === seen.dev && ino === seen.ino) return file
      await file.close()
    }
    await unlink(path)
  }
  return await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | more, 0o666)
}

/** As a program that writes into the old file would leave it: its mode and, where this process may, its owner. */
async function takeAfter(file: FileHandle, old: { mode: number; uid: number; gid: number }): Promise<void> {
  const now = await file.stat()
  // EPERM: then the new file is this user's own
  if (now.uid !== old.uid || now.gid !== old.gid) await file.chown(old.uid, old.gid).catch(() => {})
  // set-user-ID and its like were given to other bytes
  await file.chmod(old.mode & 0o777)
}

async function saying<T>(name: string, code: 'BAD_ARGUMENT' | 'COMMAND_FAILED', work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw written(name, code, error)
  }
}

function written(name: string, code: 'BAD_ARGUMENT' | 'COMMAND_FAILED', error: unknown): DarnerError {
  if (error instanceof DarnerError) return error
  const system = systemCode(error)
  const full = system === 'ENOSPC' || system === 'EDQUOT'
  return new DarnerError(full ? 'DISK_FULL' : code, `cannot write ${name}: ${system ?? String(error)}`, {
    cause: error,
  })
}
