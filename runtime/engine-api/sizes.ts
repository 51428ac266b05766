/** Bytes on disk: of a container's writable layer, of volumes, of images. */
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Entry } from '../containers/entry.ts'
import { rootfsIdOf } from '../containers/record.ts'
import type { ImageRecord } from '../images/image-record.ts'
import type { DockerParts } from './context.ts'

/** Allocated bytes below a folder, hard links counted once; 0 for one that isn't there. */
export async function folderBytes(path: string): Promise<number> {
  const seen = new Set<string>()
  const sum = async (at: string): Promise<number> => {
    const entries = await readdir(at, { withFileTypes: true }).catch(() => []) // it went, or never was
    let bytes = 0
    for (const entry of entries) {
      const facts = await lstat(join(at, entry.name)).catch(() => undefined)
      if (facts === undefined) continue
      const key = `${facts.dev}:${facts.ino}`
      if (!entry.isDirectory() && facts.nlink > 1 && seen.has(key)) continue
      seen.add(key)
      bytes += entry.isDirectory() ? await sum(join(at, entry.name)) : facts.blocks * 512
    }
    return bytes
  }
  return sum(path)
}

/** What its layers take unpacked. */
export async function imageBytes(image: Pick<ImageRecord, 'layers'>, { snapshotter }: DockerParts): Promise<number> {
  const layers = await Promise.all(
    [...new Set(image.layers.map((one) => one.diffId))].map((diffId) => snapshotter.layer(diffId)),
  )
  return layers.reduce((sum, layer) => sum + (layer?.bytes ?? 0), 0)
}

export async function usedBytes(entry: Entry, parts: DockerParts): Promise<{ rw: number; root: number }> {
  const upper = parts.snapshotter.upperOf?.(rootfsIdOf(entry.record))
  const rw = upper === undefined ? 0 : await folderBytes(upper)
  const layers = entry.record.layers.map((diffId) => ({ diffId }) as ImageRecord['layers'][number])
  return { rw, root: rw + (await imageBytes({ layers }, parts)) }
}
