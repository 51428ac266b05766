/** What becomes of a complete blob in which a scrub found rot. */
import { renameSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { DarnerError } from '../../core/errors.ts'
import type { Layout } from '../layout.ts'
import { Journal } from '../partial/journal.ts'
import { sizeFile } from '../partial/partials.ts'
import type { StoredTask } from '../partial/stored-task.ts'
import type { BlobNames } from './blob-names.ts'
import type { Inventory } from './inventory.ts'
import type { Damage } from './scrub.ts'

/** It becomes half done without its bad pieces; handles under other ids end, and `run` waits for them. Undefined when it has no digest. */
export async function demote(
  stored: StoredTask,
  bad: readonly number[],
  parts: { layout: Layout; inventory: Inventory; names: BlobNames; run: (work: () => Promise<void>) => void },
): Promise<Damage | undefined> {
  const { layout, inventory, names, run } = parts
  const { task, table, digest } = stored
  if (digest === undefined) return undefined
  const good = Array.from({ length: stored.pieces }, (_, piece) => piece).filter((piece) => !bad.includes(piece))
  await mkdir(layout.partial(task.id), { recursive: true, mode: 0o700 })
  const journal = await Journal.create(layout.journal(task.id), task, table, good)
  const path = layout.data(task.id)
  renameSync(stored.path, path)
  for (const other of inventory.forget(digest)) {
    if (other === stored) continue
    other.fail(new DarnerError('STORE_CORRUPT', `${other.task.id}: the stored blob ${digest} is damaged`))
    run(() => other.close())
  }
  inventory.dormant.delete(task.id)
  inventory.live.set(task.id, stored)
  stored.damaged(bad, { path, table, journal })
  await sizeFile(path, task.bytes)
  await names.takeRecord(digest)
  return { task, digest, pieces: bad }
}
