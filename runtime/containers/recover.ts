/** After a restart of the agent: compares the records with what is on disk and in the kernel, container by container. */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { Exits } from '../shim/exits.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import type { RootfsStore } from './dependencies.ts'
import { unstage } from './mapped-run.ts'

export interface RecoverParts<Entry extends { readonly id: string }> {
  /** Root file systems that containers stand on, or may be rolled back to. */
  readonly rootfsIds: () => ReadonlySet<string>
  /** Folder of the bundles. */
  readonly bundles: string
  /** Folder of the mounts of runs in user namespaces. */
  readonly staging: string
  readonly exits: Pick<Exits, 'folders' | 'forget'>
  readonly entries: readonly Entry[]
  readonly rootfs: RootfsStore
  readonly runtimes: ReadonlyMap<string, OciRuntime>
  readonly log: Log
  readonly recoverOne: (entry: Entry) => Promise<string | undefined>
  readonly signal: AbortSignal
}

/** How many containers are looked at side by side. */
const AT_ONCE = 8
const ID = /^[0-9a-f]{64}$/

/** Mends all, one bad container never holding up the rest, and says what was mended. */
export async function recoverContainers<Entry extends { readonly id: string }>(
  parts: RecoverParts<Entry>,
): Promise<string[]> {
  const mended: string[] = []
  const todo = [...parts.entries]
  const worker = async () => {
    for (let entry = todo.pop(); entry; entry = todo.pop()) {
      try {
        const said = await parts.recoverOne(entry)
        if (said !== undefined) mended.push(said)
      } catch (error) {
        parts.log.error({ container: entry.id, error }, 'container recovery failed')
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  const ids = new Set(parts.entries.map((entry) => entry.id))
  mended.push(...(await orphans(parts, ids)))
  try {
    mended.push(...(await parts.rootfs.recover(parts.rootfsIds())))
  } catch (error) {
    parts.log.error({ error }, 'root file system recovery failed')
  }
  return mended
}

async function orphans(
  {
    bundles,
    staging,
    exits,
    runtimes,
    log,
    signal,
  }: Omit<RecoverParts<{ readonly id: string }>, 'entries' | 'recoverOne'>,
  ids: ReadonlySet<string>,
): Promise<string[]> {
  const mended: string[] = []
  for (const runtime of runtimes.values()) {
    for (const id of await strangers(runtime.options.root, ids)) {
      try {
        await runtime.delete(id, { force: true, signal })
        mended.push(`${id.slice(0, 12)}: was in ${runtime.options.name} without a record`)
      } catch (error) {
        log.error({ container: id, error }, 'container without a record stays')
      }
    }
  }
  for (const id of await strangers(bundles, ids)) {
    await rm(join(bundles, id), { recursive: true, force: true })
    mended.push(`${id.slice(0, 12)}: bundle without a record`)
  }
  for (const id of await strangers(staging, ids)) {
    await unstage(join(staging, id))
    mended.push(`${id.slice(0, 12)}: mounts without a record`)
  }
  for (const folder of exits.folders) {
    for (const id of await strangers(folder, ids)) {
      await exits.forget(id)
      mended.push(`${id.slice(0, 12)}: exit code without a record`)
    }
  }
  return mended
}

async function strangers(folder: string, ids: ReadonlySet<string>): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => ID.test(name) && !ids.has(name))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}
