/**
 * Writes a plan and takes it back: each file whole or not at all, and a record of what was there before. A file that two clients
 * read is on record for both, and stays until it is taken back for the second.
 */
import { createHash } from 'node:crypto'
import { mkdir, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DarnerError, systemCode } from '../../core/errors.ts'
import { replaceFile } from '../../core/files.ts'
import { CLIENTS, type ClientName } from './client-names.ts'
import { type ClientSetup, type Plan, readBelow, type SetupTarget, type SetupUpstream } from './plan.ts'

const RECORDS = '/var/lib/darner/mirror-setup'

interface FileRecord {
  readonly path: string
  /** Null where there was no file. */
  readonly before: string | null
  /** SHA-256 of what was written. */
  readonly after: string
}

interface SetupRecord {
  readonly mirror: string
  /** Those that a person chose; absent where they are the agent's. */
  readonly upstreams?: readonly SetupUpstream[]
  readonly files: readonly FileRecord[]
  /** Folders that were made, outermost first. */
  readonly folders: readonly string[]
}

/** What taking a setup back did: files as they were, and files that stay since another client reads them. */
export interface Undone {
  readonly restored: readonly { readonly path: string /** There was none before. */; readonly removed: boolean }[]
  readonly kept: readonly { readonly path: string; readonly client: ClientName }[]
}

const hash = (text: string) => createHash('sha256').update(text).digest('hex')
const recordPath = (client: ClientName) => `${RECORDS}/${client}.json`

/** Writes what differs; returns the paths written. Throws HOST_UNABLE; what was written till then stays on record. */
export async function applyPlan(
  client: ClientName,
  plan: Plan,
  { root, mirror, upstreams, chosen }: Pick<SetupTarget, 'root' | 'mirror' | 'upstreams' | 'chosen'>,
): Promise<string[]> {
  const old = await readRecord(root, client)
  const files = new Map((old?.files ?? []).map((one) => [one.path, one]))
  const others = await recordsOfOthers(root, client)
  const shared = (path: string) => others.flatMap((one) => one.files).find((file) => file.path === path)
  const folders = new Set(old?.folders ?? [])
  for (const other of others)
    if (plan.edits.some(({ path }) => other.files.some((file) => file.path === path)))
      for (const folder of other.folders) folders.add(folder)
  const choice = chosen ? { upstreams } : {}
  const save = () => writeRecord(root, client, { mirror, ...choice, files: [...files.values()], folders: [...folders] })
  const written: string[] = []
  for (const { path, before, after } of plan.edits) {
    const known = files.get(path) ?? shared(path)
    if (before === after) {
      if (known !== undefined && !files.has(path)) {
        files.set(path, known)
        await save()
      }
      continue
    }
    const untouched = known !== undefined && before !== undefined && hash(before) === known.after
    files.set(path, { path, before: untouched ? known.before : (before ?? null), after: hash(after) })
    // on record first: a crash between the two leaves a record of a file that is as it was
    await save()
    const made = await mkdir(dirname(join(root, path)), { recursive: true })
    if (made !== undefined)
      for (const one of madeBetween(made, dirname(join(root, path))))
        folders.add(one.slice(root.replace(/\/+$/, '').length))
    await writeWhole(join(root, path), after)
    await save()
    written.push(path)
  }
  if (old !== undefined) await save()
  return written
}

/**
 * Brings back what was there before {@link applyPlan}. Of a file changed since, only our part is removed, and one that another client was
 * set up with stays.
 */
export async function undoPlan(client: ClientName, setup: ClientSetup, { root }: { root: string }): Promise<Undone> {
  const record = await readRecord(root, client)
  if (record === undefined) throw new DarnerError('NOT_FOUND', `${client}: no setup on record at ${recordPath(client)}`)
  const restored: Undone['restored'][number][] = []
  const kept: Undone['kept'][number][] = []
  const others = await recordsOfOthers(root, client)
  for (const { path, before, after } of [...record.files].reverse()) {
    const other = others.find(({ files }) => files.some((file) => file.path === path))
    if (other !== undefined) {
      kept.push({ path, client: other.client })
      continue
    }
    const now = await readBelow(root, path)
    if (now === undefined) continue
    const next =
      hash(now) === after ? (before ?? undefined) : before === now ? now : setup.remove(path, now, record.mirror)
    if (next === undefined) await rm(join(root, path))
    else if (next !== now) await writeWhole(join(root, path), next)
    restored.push({ path, removed: next === undefined })
  }
  for (const folder of [...record.folders].reverse()) await removeEmpty(join(root, folder))
  await rm(join(root, recordPath(client)))
  await removeEmpty(join(root, RECORDS))
  await removeEmpty(join(root, dirname(RECORDS)))
  return { restored, kept }
}

/** The upstreams that a client was set up for, where a person chose them. */
export async function chosenUpstreams(client: ClientName, root: string): Promise<readonly SetupUpstream[] | undefined> {
  return (await readRecord(root, client))?.upstreams
}

/** Whether a client was pointed at the mirror, and not taken back since. */
export async function isSetUp(client: ClientName, root: string): Promise<boolean> {
  return (await readRecord(root, client)) !== undefined
}

function madeBetween(first: string, last: string): string[] {
  const folders: string[] = []
  for (let at = last; at.length >= first.length; at = dirname(at)) folders.unshift(at)
  return folders
}

async function removeEmpty(path: string): Promise<void> {
  try {
    await rmdir(path)
  } catch (error) {
    const code = systemCode(error)
    // EBUSY: a file system of its own is mounted there
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(code ?? '')) throw unable(path, error)
  }
}

/** Keeps the mode of what was there. */
async function writeWhole(path: string, text: string): Promise<void> {
  const mode = await stat(path).then(
    (facts) => facts.mode & 0o7777,
    () => 0o644,
  )
  try {
    await replaceFile(path, text, mode)
  } catch (error) {
    throw unable(path, error)
  }
}

async function writeRecord(root: string, client: ClientName, record: SetupRecord): Promise<void> {
  await mkdir(join(root, RECORDS), { recursive: true, mode: 0o755 })
  await writeWhole(join(root, recordPath(client)), `${JSON.stringify(record, null, 2)}\n`)
}

async function readRecord(root: string, client: ClientName): Promise<SetupRecord | undefined> {
  const path = recordPath(client)
  const text = await readBelow(root, path)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as SetupRecord
  } catch (error) {
    throw new DarnerError('HOST_UNABLE', `${path}: it is not JSON`, {
      cause: error,
      way: `remove it, then run darner mirror setup ${client} --apply again`,
    })
  }
}

async function recordsOfOthers(
  root: string,
  client: ClientName,
): Promise<(SetupRecord & { readonly client: ClientName })[]> {
  const records = await Promise.all(
    CLIENTS.filter((one) => one !== client).map(async (one) => {
      const record = await readRecord(root, one)
      return record === undefined ? [] : [{ ...record, client: one }]
    }),
  )
  return records.flat()
}

function unable(path: string, error: unknown): DarnerError {
  const code = systemCode(error)
  return new DarnerError('HOST_UNABLE', `write ${path}: ${code ?? String(error)}`, {
    cause: error,
    ...(code === 'EACCES' || code === 'EPERM' ? { way: 'run it as root' } : {}),
  })
}
