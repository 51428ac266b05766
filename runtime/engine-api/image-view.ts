/** Images as docker's lists, inspect and history show them. */
import { familiarReference, parseReference } from '../../src/oci/reference.ts'
import type { ImageRecord } from '../images/image-record.ts'
import type { ListedImage } from '../images/images.ts'
import { readImageConfig } from '../spec/image-config.ts'
import type { DockerParts } from './context.ts'

/** A full name as people write it. */
export function shown(name: string): string {
  return familiarReference(parseReference(name))
}

interface Config {
  readonly created?: string
  readonly author?: string
  readonly architecture?: string
  readonly variant?: string
  readonly os?: string
  readonly config?: Record<string, unknown>
  readonly history?: { created?: string; created_by?: string; comment?: string; empty_layer?: boolean }[]
}

export function configOf(image: ImageRecord): Config {
  return JSON.parse(image.configText) as Config
}

export function createdMs(image: ImageRecord): number {
  const at = Date.parse(configOf(image).created ?? '')
  return Number.isNaN(at) ? 0 : at
}

/** The labels of its configuration. */
export function labelsOf(image: ImageRecord): Readonly<Record<string, string>> {
  return readImageConfig(configOf(image), image.config).labels
}

export function imageView({ image, tags, digests }: ListedImage, bytes: number) {
  return {
    Id: image.config,
    ParentId: image.parent ?? '',
    RepoTags: tags.length > 0 ? tags.map(shown) : null,
    RepoDigests: digests.length > 0 ? digests.map(shown) : null,
    Created: Math.floor(createdMs(image) / 1000),
    Size: bytes,
    VirtualSize: bytes,
    SharedSize: -1,
    Labels: labelsOf(image),
    Containers: -1,
  }
}

export function inspectImage(
  image: ImageRecord,
  listed: ListedImage | undefined,
  bytes: number,
  { snapshotter }: DockerParts,
) {
  const config = configOf(image)
  return {
    Id: image.config,
    RepoTags: (listed?.tags ?? []).map(shown),
    RepoDigests: (listed?.digests ?? []).map(shown),
    Parent: image.parent ?? '',
    Comment: config.history?.at(-1)?.comment ?? '',
    Created: config.created ?? '',
    DockerVersion: '',
    Author: config.author ?? '',
    Config: config.config ?? {},
    Architecture: config.architecture ?? '',
    ...(config.variant ? { Variant: config.variant } : {}),
    Os: config.os ?? '',
    Size: bytes,
    VirtualSize: bytes,
    GraphDriver: { Name: `darner-${snapshotter.kind}`, Data: null },
    RootFS: { Type: 'layers', Layers: image.layers.map((layer) => layer.diffId) },
    Metadata: { LastTagTime: new Date(image.pulledAt).toISOString() },
  }
}

/** Newest first; the size is that of the layer that a step made. */
export async function historyView(image: ImageRecord, tags: readonly string[], { snapshotter }: DockerParts) {
  const steps = configOf(image).history ?? image.layers.map(() => ({}))
  let layer = 0
  const rows = []
  for (const step of steps as NonNullable<Config['history']>) {
    const diffId = step.empty_layer ? undefined : image.layers[layer++]?.diffId
    const stored = diffId === undefined ? undefined : await snapshotter.layer(diffId)
    rows.push({
      Id: '<missing>',
      Created: Math.floor((Date.parse(step.created ?? '') || 0) / 1000),
      CreatedBy: step.created_by ?? '',
      Tags: null as string[] | null,
      Size: stored?.bytes ?? 0,
      Comment: step.comment ?? '',
    })
  }
  rows.reverse()
  const [top] = rows
  if (top) Object.assign(top, { Id: image.config, Tags: tags.length > 0 ? tags.map(shown) : null })
  return rows
}
