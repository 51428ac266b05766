/** The files of an image archive, put on disk as they arrive, each with its digest. Nothing of it keeps its name there. */
import { type FileHandle, mkdir, open, readFile, rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { type Digest, Digester } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { TarReader } from '../snapshots/tar.ts'

/** Most entries of one archive. */
const MOST_ENTRIES = 100_000
/** Longest file that is read as JSON. */
const MOST_JSON_BYTES = 16 * 1024 * 1024
const MOST_LINKS = 8

export interface ArchiveFile {
  readonly path: string
  readonly bytes: number
  readonly digest: Digest
}

interface Draft {
  readonly name: string
  readonly path: string
  readonly digester: Digester
  readonly waiting: Buffer[]
  ended: boolean
}

/** Hold it with `await using`: disposing deletes the files. */
export class ArchiveFiles implements AsyncDisposable {
  readonly #folder: string
  readonly #files = new Map<string, ArchiveFile>()
  readonly #links = new Map<string, string>()

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Reads a plain tar to its end. Throws LAYER_INVALID, LIMIT_EXCEEDED, or what source and disk throw. */
  static async read(
    tar: AsyncIterable<Uint8Array>,
    folder: string,
    { mostBytes }: { mostBytes: number },
  ): Promise<ArchiveFiles> {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const files = new ArchiveFiles(folder)
    try {
      await files.#take(tar, mostBytes)
      return files
    } catch (error) {
      await files[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Links followed. */
  find(name: string): ArchiveFile | undefined {
    let at = plainName(name)
    for (let hop = 0; hop < MOST_LINKS; hop++) {
      const next = this.#links.get(at)
      if (next === undefined) return this.#files.get(at)
      at = next
    }
    return undefined
  }

  /** Throws LAYER_INVALID for a file that isn't there, or that is no JSON. */
  async json(name: string): Promise<unknown> {
    try {
      return JSON.parse((await this.text(name)).toString())
    } catch (error) {
      if (error instanceof DarnerError) throw error
      throw new DarnerError('LAYER_INVALID', `image archive: ${name} is not JSON`, { cause: error })
    }
  }

  async text(name: string): Promise<Buffer> {
    const file = this.find(name)
    if (file === undefined) throw new DarnerError('LAYER_INVALID', `image archive: it has no ${name.slice(0, 200)}`)
    if (file.bytes > MOST_JSON_BYTES)
      throw new DarnerError('LIMIT_EXCEEDED', `image archive: ${name} has more than ${MOST_JSON_BYTES} bytes`)
    return readFile(file.path)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #take(tar: AsyncIterable<Uint8Array>, mostBytes: number): Promise<void> {
    const drafts: Draft[] = []
    let entries = 0
    let bytes = 0
    const reader = new TarReader({
      entry: (entry) => {
        if (++entries > MOST_ENTRIES)
          throw new DarnerError('LIMIT_EXCEEDED', `image archive: more than ${MOST_ENTRIES} entries`)
        const name = plainName(entry.path.toString())
        if (entry.sparse !== undefined) throw new DarnerError('LAYER_INVALID', `image archive: ${name} has holes`)
        if (entry.kind === 'symlink')
          this.#links.set(name, plainName(posix.join(posix.dirname(name), entry.link.toString())))
        if (entry.kind === 'link') this.#links.set(name, plainName(entry.link.toString()))
        const path = join(this.#folder, String(entries))
        if (entry.kind === 'file')
          drafts.push({ name, path, digester: new Digester('sha256'), waiting: [], ended: false })
      },
      data: (_at, chunk) => drafts.at(-1)?.waiting.push(Buffer.from(chunk)),
      endEntry: () => {
        const last = drafts.at(-1)
        if (last) last.ended = true
      },
    })
    let handle: FileHandle | undefined
    try {
      for await (const chunk of tar) {
        bytes += chunk.byteLength
        if (bytes > mostBytes) throw new DarnerError('LIMIT_EXCEEDED', `image archive: more than ${mostBytes} bytes`)
        reader.push(chunk)
        for (let draft = drafts[0]; draft !== undefined; draft = drafts[0]) {
          handle ??= await open(draft.path, 'wx', 0o600)
          for (const part of draft.waiting.splice(0)) {
            draft.digester.update(part)
            for (let at = 0; at < part.byteLength; ) at += (await handle.write(part, at)).bytesWritten
          }
          if (!draft.ended) break
          await handle.sync()
          await handle.close()
          handle = undefined
          drafts.shift()
          const size = draft.digester.bytes
          this.#files.set(draft.name, { path: draft.path, bytes: size, digest: draft.digester.finish() })
        }
      }
      reader.finish()
    } finally {
      await handle?.close()
    }
  }
}

function plainName(name: string): string {
  return posix.normalize(`/${name}`).slice(1)
}
