/**
 * Blobs that were made or loaded on this host and that no registry need have: a file each, by digest. A file under its digest is
 * whole: it is written elsewhere, made durable and renamed.
 */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { link, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { algorithmOf, type Digest, Digester, hexOf, isDigest } from '../../src/core/digest.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'

const READ_BYTES = 256 * 1024

export interface OwnBlob {
  readonly digest: Digest
  readonly bytes: number
}

export class OwnBlobs {
  readonly #dir: string

  /** `dir` is absolute; it is made with the first blob. */
  constructor(dir: string) {
    this.#dir = dir
  }

  /** Its length; undefined when it isn't here. */
  async bytesOf(digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.#path(digest))).size
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw error
    }
  }

  /** Its bytes. The stream throws ENOENT for one that isn't here. */
  read(digest: Digest): AsyncIterable<Uint8Array> {
    return createReadStream(this.#path(digest), { highWaterMark: READ_BYTES })
  }

  /** Keeps what `source` gives. Throws DIGEST_MISMATCH for anything but `expected`, DISK_FULL, or what the source throws. */
  async put(source: AsyncIterable<Uint8Array>, expected?: Digest): Promise<OwnBlob> {
    const path = await this.draft()
    try {
      const digester = new Digester(expected === undefined ? 'sha256' : algorithmOf(expected))
      {
        await using file = await open(path, 'wx', 0o600)
        for await (const chunk of source) {
          digester.update(chunk)
          for (let at = 0; at < chunk.byteLength; ) at += (await file.write(chunk, at)).bytesWritten
        }
        await file.sync()
      }
      const { bytes } = digester
      const digest = digester.finish()
      if (expected !== undefined && digest !== expected)
        throw new DarnerError('DIGEST_MISMATCH', `blob ${expected}: what came hashes to ${digest}`)
      await rename(path, this.#path(digest))
      return { digest, bytes }
    } catch (error) {
      if (systemCode(error) === 'ENOSPC')
        throw new DarnerError('DISK_FULL', `keeping a blob in ${this.#dir}: no space left`, { cause: error })
      throw error
    } finally {
      await rm(path, { force: true })
    }
  }

  /** Keeps a file that lies on the same disk and is known to hash to `digest`; the file itself stays. */
  async adopt(path: string, digest: Digest): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    await link(path, this.#path(digest)).catch((error: unknown) => {
      if (systemCode(error) !== 'EEXIST') throw error
    })
  }

  /** A path for something half made, which the caller removes; what an ended agent left goes with {@link recover}. */
  async draft(): Promise<string> {
    const drafts = join(this.#dir, 'drafts')
    await mkdir(drafts, { recursive: true, mode: 0o700 })
    return join(drafts, randomUUID())
  }

  async list(): Promise<Digest[]> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return []
      throw error
    })
    return names.map((name) => name.replace('-', ':')).filter(isDigest)
  }

  async remove(digest: Digest): Promise<void> {
    await rm(this.#path(digest), { force: true })
  }

  async recover(): Promise<void> {
    await rm(join(this.#dir, 'drafts'), { recursive: true, force: true })
  }

  #path(digest: Digest): string {
    return join(this.#dir, `${algorithmOf(digest)}-${hexOf(digest)}`)
  }
}
