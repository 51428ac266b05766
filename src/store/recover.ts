/** What a store finds when it opens: compares the records with the names on disk, without looking at each file. */
import { readdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Digest, isDigest } from '../core/digest.ts'
import type { Log } from '../core/log.ts'
import { blobTask, type Task, type TaskId } from '../core/task/task.ts'
import type { BlobRecord, Metadata, Remembered } from './blobs/metadata.ts'
import type { Layout } from './layout.ts'
import { readJournal } from './partial/journal.ts'

/** A half-done task from an earlier run. Its pieces don't count before they were hashed again. */
export interface Dormant {
  readonly task: Task
  /** What its journal claims, in bytes. */
  readonly claimedBytes: number
  /** Epoch milliseconds of the last piece. */
  readonly lastUsedMs: number
}

/**
 * Drops records whose file is gone and adds files that no record names. Such files were verified before they got their name, so a lost
 * metadata folder costs use times, pins and piece tables, but no bytes.
 */
export async function recoverBlobs(layout: Layout, metadata: Metadata, log: Log): Promise<Remembered> {
  const found = await metadata.load()
  const here = new Set<Digest>()
  for (const algorithm of ['sha256', 'sha512'] as const) {
    for (const name of await readdir(layout.blobs(algorithm))) {
      const digest = `${algorithm}:${name}`
      if (isDigest(digest)) here.add(digest)
    }
  }
  const lost = [...found.blobs.keys()].filter((digest) => !here.has(digest))
  for (const digest of lost) found.blobs.delete(digest)
  if (lost.length > 0) {
    log.warn({ blobs: lost.length }, 'records without a file dropped')
    await metadata.dropBlobs(lost)
  }
  for (const digest of here) {
    if (found.blobs.has(digest)) continue
    const { size, mtimeMs } = await stat(layout.blob(digest))
    const { id, bytes, pieceBytes } = blobTask(digest, size)
    const record: BlobRecord = { bytes, pieceBytes, ids: [id] }
    await metadata.putBlob(digest, record, undefined)
    found.blobs.set(digest, record)
    found.used.set(digest, mtimeMs)
    log.info({ digest, bytes }, 'blob without a record taken in')
  }
  return found
}

/** Reads the journals of half-done tasks; folders that can't be read or whose blob is complete go to the trash. */
export async function recoverPartials(
  layout: Layout,
  complete: ReadonlySet<Digest>,
  log: Log,
): Promise<Map<TaskId, Dormant>> {
  const dormant = new Map<TaskId, Dormant>()
  for (const name of await readdir(layout.partials)) {
    const folder = join(layout.partials, name)
    try {
      const { task, pieces } = await readJournal(join(folder, 'journal'))
      const { mtimeMs } = await stat(join(folder, 'journal'))
      await stat(join(folder, 'data'))
      const stale = layout.partial(task.id) !== folder || (task.digest !== undefined && complete.has(task.digest))
      if (!stale) {
        const claimedBytes = Math.min(task.bytes, pieces.size * task.pieceBytes)
        dormant.set(task.id, { task, claimedBytes, lastUsedMs: mtimeMs })
        continue
      }
    } catch (error) {
      // a crash between two steps leaves such a folder; what it held is fetched again
      log.warn({ error, folder: name }, 'half-done task that cannot be read dropped')
    }
    await rename(folder, layout.freshTrash())
  }
  return dormant
}
