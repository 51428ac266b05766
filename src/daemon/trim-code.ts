/** Takes compiled code away that no start asks for any more: of Node versions and options that have gone. */
import { opendir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../core/errors.ts'

/** By age, since during an upgrade two versions run at once; what is taken too soon is compiled again. */
const UNUSED_MS = 30 * 24 * 3_600_000

/**
 * Node keeps a folder for each version, architecture and set of options, and never deletes one. Removes those in `folder` of
 * which no file was written or read for thirty days before `nowMs` (epoch); what else is there stays. Returns the names.
 */
export async function trimCode(folder: string, nowMs: number): Promise<string[]> {
  const removed: string[] = []
  for (const name of await Array.fromAsync(listed(folder))) {
    if (!/^v\d+\.\d+\.\d+-/.test(name)) continue
    const path = join(folder, name)
    if (await usedSince(path, nowMs - UNUSED_MS)) continue
    await rm(path, { recursive: true, force: true })
    removed.push(name)
  }
  return removed
}

/**
 * Whether a file of it was read or written since then; most file systems note a read once a day. A look by us is a read of the folder: no
 * use. It ends with the first use that it finds: a folder may hold a hundred thousand files, and a daemon that starts has other work.
 */
async function usedSince(folder: string, sinceMs: number): Promise<boolean> {
  if ((await timesOf(folder)).mtimeMs > sinceMs) return true
  for await (const name of listed(folder)) {
    const { atimeMs, mtimeMs } = await timesOf(join(folder, name))
    if (Math.max(atimeMs, mtimeMs) > sinceMs) return true
  }
  return false
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

async function* listed(folder: string): AsyncGenerator<string> {
  try {
    for await (const { name } of await opendir(folder)) yield name
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return
    throw error
  }
}
