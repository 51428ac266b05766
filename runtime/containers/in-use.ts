/** What containers hold on to: images, layers, root file systems, volumes. For the collector of the rest. */
import type { Volumes } from '../volumes/volumes.ts'
import type { Entry } from './entry.ts'
import { type ContainerRecord, generationsOf } from './record.ts'

export interface InUse {
  readonly imageIds: ReadonlySet<string>
  readonly layers: ReadonlySet<string>
}

type Held = Pick<Entry, 'id' | 'record'>

/** Layers and images that containers stand on, or may be rolled back to. */
export function inUseBy(entries: readonly Held[]): InUse {
  const all = entries.flatMap(({ record }) => generationsOf(record))
  return { imageIds: new Set(all.map((one) => one.imageId)), layers: new Set(all.flatMap((one) => one.layers)) }
}

export function rootfsIdsOf(entries: readonly Held[]): Set<string> {
  return new Set(entries.flatMap(({ record }) => generationsOf(record).map((one) => one.rootfsId)))
}

/** Names of volumes, with the ids of the containers that have them. */
export function volumesOf(entries: readonly Held[]): Map<string, string[]> {
  const used = new Map<string, string[]>()
  for (const { id, record } of entries) {
    for (const { type, source } of record.request.mounts ?? [])
      if (type === 'volume' && source !== undefined) used.set(source, [...(used.get(source) ?? []), id])
  }
  return used
}

/** Removes the volumes that were made for this container only and that no other one took. */
export async function removeOwnVolumes(
  record: ContainerRecord,
  used: ReadonlyMap<string, readonly string[]>,
  volumes: Volumes,
): Promise<void> {
  for (const { anonymous, source } of record.request.mounts ?? []) {
    if (anonymous !== true || source === undefined) continue
    if ((used.get(source) ?? []).some((id) => id !== record.id)) continue
    if (await volumes.find(source)) await volumes.remove(source)
  }
}
