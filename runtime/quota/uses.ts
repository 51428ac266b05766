/** What a container uses of its disk quotas: of its writable layer, its volumes and its logs. */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import { systemCode } from '../../src/core/errors.ts'
import { type Bundle, serviceBundle } from '../shim/bundle.ts'
import { allLogBytesOf } from './log-bound.ts'

export interface Used {
  readonly used: number
  readonly limit: number
}

export interface QuotaUsage {
  readonly bytes: Used
  /** Absent when they are not limited. */
  readonly inodes?: Used
}

export interface PlaceUsage extends QuotaUsage {
  /** `/` for the writable layer, where a volume is mounted, or {@link LOGS}. */
  readonly path: string
}

/** The place of the logs, which is nowhere inside. */
export const LOGS = 'log'

/** Where the usage of what has a quota is read; undefined for what has none. */
export interface QuotaReader {
  usage(rootfsId: string): Promise<QuotaUsage | undefined>
  usageOfVolume(name: string): Promise<QuotaUsage | undefined>
}

/** Only places that have a quota. The container's layer and volumes are mounted. */
export async function usesOf(
  reader: QuotaReader,
  { rootfsId, request, bundle }: { rootfsId: string; request: CreateRequest; bundle: Bundle },
): Promise<PlaceUsage[]> {
  const found: PlaceUsage[] = []
  const add = (path: string, usage: QuotaUsage | undefined) => {
    if (usage) found.push({ path, ...usage })
  }
  add('/', await reader.usage(rootfsId))
  for (const { type, source, target } of request.mounts ?? [])
    if (type === 'volume' && source !== undefined) add(target, await reader.usageOfVolume(source))
  const limit = allLogBytesOf(request)
  if (limit !== undefined) {
    const services = request.services ?? []
    const bundles = [bundle, ...services.map(({ name }) => serviceBundle(bundle, name))]
    const all = await Promise.all(bundles.map(({ log }) => bytesOfLog(log)))
    add(LOGS, {
      bytes: { used: all.reduce((sum, one) => sum + one, 0), limit },
    })
  }
  return found
}

/** The log and what was put aside of it. */
async function bytesOfLog(log: string): Promise<number> {
  const name = basename(log)
  const names = await readdir(dirname(log)).catch(ifGone([]))
  const mine = names.filter(
    (one) => one === name || (one.startsWith(`${name}.`) && /^\d+$/.test(one.slice(name.length + 1))),
  )
  const sizes = await Promise.all(
    mine.map(async (one) => (await stat(join(dirname(log), one)).catch(ifGone({ size: 0 }))).size),
  )
  return sizes.reduce((sum, one) => sum + one, 0)
}

function ifGone<T>(instead: T): (error: unknown) => T {
  return (error) => {
    if (systemCode(error) === 'ENOENT') return instead
    throw error
  }
}
