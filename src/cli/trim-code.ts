/** Takes compiled code away that no start asks for any more: of Node versions and options that have gone. */
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../base/errors.ts'

/** By age, since during an upgrade two versions run at once; what is taken too soon is compiled again. */
const UNUSED_MS = 30 * 24 * 3_600_000

/**
 * Node keeps a folder for each version, architecture and set of options, and never deletes one. Removes those in `folder` of
 * which no file was written or read for thirty days before `nowMs` (epoch); what else is there stays. Returns the names.
 */
export async function trimCode(folder: string, nowMs: number): Promise<string[]> {
  const removed: string[] = []
  for (const name of await listed(folder)) {
    if (!/^v\d+\.\d+\.\d+-/.test(name)) continue
    const path = join(folder, name)
    if (nowMs - (await lastUsedMs(path)) < UNUSED_MS) continue
    await rm(path, { recursive: true, force: true })
    removed.push(name)
  }
  return removed
}

/** When a file of it was read or written last; most file systems note a read once a day. A look by us is a read of the folder: no use. */
async function lastUsedMs(folder: string): Promise<number> {
  let last = (await timesOf(folder)).mtimeMs
  for (const name of await listed(folder)) {
    const { atimeMs, mtimeMs } = await timesOf(join(folder, name))
    last = Math.max(last, atimeMs, mtimeMs)
  }
  return last
}

async function timesOf(path: string): Promise<{ atimeMs: number; mtimeMs: number }> {
  try {
    return await stat(path)
  } catch (error) {
    // another daemon was sooner
    if (systemCode(error) === 'ENOENT') return { atimeMs: 0, mtimeMs: 0 }
    throw error
  }
}

async function listed(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return []
    throw error
  }
}
