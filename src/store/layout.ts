/**
 * Where things are below a store's directory. Everything is on one file system, so that renames are atomic.
 *
 *     lock                  who has the store open
 *     meta/                 level: records, use times, pins, piece tables; its own lock guards the whole directory; its `reserve` is
 *                           room for writes on a full disk (reserve.ts)
 *     blobs/<alg>/<hex>     complete blobs, never partial
 *     partial/<id>/data     a task's sparse file; partial/<id>/journal says which pieces count
 *     ingest/               streams on their way in; emptied at start
 *     trash/                what is being deleted; emptied at start
 */
import { randomUUID } from 'node:crypto'
import { chmod, type FileHandle, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { algorithmOf, type Digest, hexOf } from '../core/digest.ts'
import type { TaskId } from '../core/task/task.ts'

export class Layout {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  get lock(): string {
    return join(this.root, 'lock')
  }

  get meta(): string {
    return join(this.root, 'meta')
  }

  get partials(): string {
    return join(this.root, 'partial')
  }

  get ingest(): string {
    return join(this.root, 'ingest')
  }

  get trash(): string {
    return join(this.root, 'trash')
  }

  blobs(algorithm: 'sha256' | 'sha512'): string {
    return join(this.root, 'blobs', algorithm)
  }

  blob(digest: Digest): string {
    return join(this.blobs(algorithmOf(digest)), hexOf(digest))
  }

  /** The folder of a half-done task. A TaskId is `<word>:<hex>`, so this is a plain name. */
  partial(id: TaskId): string {
    return join(this.partials, id.replace(':', '-'))
  }

  data(id: TaskId): string {
    return join(this.partial(id), 'data')
  }

  journal(id: TaskId): string {
    return join(this.partial(id), 'journal')
  }

  freshIngest(): string {
    return join(this.ingest, randomUUID())
  }

  freshTrash(): string {
    return join(this.trash, randomUUID())
  }

  /** Makes the folders and empties those that hold nothing across a restart. */
  async prepare(): Promise<void> {
    await rm(this.ingest, { recursive: true, force: true })
    await rm(this.trash, { recursive: true, force: true })
    for (const dir of [this.blobs('sha256'), this.blobs('sha512'), this.partials, this.ingest, this.trash]) {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      await chmod(dir, 0o700) // earlier versions left them open to all
    }
  }
}

/** Writes all of `bytes` at `position`; the kernel may take them in several bites. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done)
    done += bytesWritten
  }
}

/** Fills `into` from `position`; returns how much the file had, which is less only at its end. */
export async function readAll(handle: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let done = 0
  while (done < into.byteLength) {
    const { bytesRead } = await handle.read(into, done, into.byteLength - done, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}
