/** Makes and reopens the files of a half-done task. */
import { mkdir, open, rm } from 'node:fs/promises'
import { asDarnerError } from '../../core/errors.ts'
import { Bitmap } from '../../core/task/bitmap.ts'
import { pieceCount, type Task } from '../../core/task/task.ts'
import type { Hasher } from '../hash/hasher.ts'
import type { Layout } from '../layout.ts'
import { Journal, readJournal } from './journal.ts'
import { agrees } from './journal-check.ts'
import { PieceTable } from './piece-table.ts'
import type { Found } from './stored-task.ts'

/**
 * A fresh file, which grows as pieces come, and an empty journal. Each step is a turn of a busy machine, so they are few. Throws
 * DISK_FULL; then nothing of it is left.
 */
export async function createPartial(task: Task, layout: Layout): Promise<Found> {
  const folder = layout.partial(task.id)
  const path = layout.data(task.id)
  const table = new PieceTable(pieceCount(task))
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const opening = [open(path, 'w+', 0o600), Journal.begin(layout.journal(task.id), task)] as const
    const [data, begun] = await Promise.allSettled(opening)
    if (data.status === 'fulfilled' && begun.status === 'fulfilled')
      return { path, handle: data.value, have: new Bitmap(table.size), table, journal: begun.value }
    if (data.status === 'fulfilled') await data.value.close()
    if (begun.status === 'fulfilled') await begun.value.close()
    throw data.status === 'rejected' ? data.reason : (begun as PromiseRejectedResult).reason
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw asDarnerError(error, `make room for ${task.id}`)
  }
}

/**
 * Opens what an earlier run left. Each recorded piece is hashed again and counts only when it can be read and agrees with its record;
 * the journal is rewritten with those. Throws STORE_CORRUPT, DISK_FULL or the signal's reason; the files then stay.
 */
export async function reopenPartial(
  task: Task,
  layout: Layout,
  hasher: Hasher,
  { signal }: { signal: AbortSignal },
): Promise<Found & { have: Bitmap; dropped: number }> {
  const path = layout.data(task.id)
  const recorded = await readJournal(layout.journal(task.id))
  const table = new PieceTable(pieceCount(task))
  const have = new Bitmap(table.size)
  await sizeFile(path, task.bytes)
  const numbers = [...recorded.pieces.keys()].sort((a, b) => a - b)
  for await (const { piece, digest } of hasher.pieces(path, task, numbers, { signal })) {
    const check = recorded.pieces.get(piece)
    if (check === undefined || digest === undefined || !agrees(check, digest)) continue
    table.setDigests(piece, digest)
    have.add(piece)
  }
  const kept = numbers.filter((piece) => have.has(piece))
  const journal = await Journal.create(layout.journal(task.id), task, table, kept)
  return { path, have, table, journal, dropped: numbers.length - kept.length }
}

/** Makes the file, or brings it to its length, without taking the space. */
export async function sizeFile(path: string, bytes: number): Promise<void> {
  const handle = await open(path, 'a+')
  try {
    if ((await handle.stat()).size !== bytes) await handle.truncate(bytes)
  } finally {
    await handle.close()
  }
}
