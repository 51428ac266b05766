/**
 * Images on this host: records by manifest digest (`image/…`) and names that point at them (`name/…`: `registry/repository:tag` or
 * `registry/repository@digest`). A record is written before the first name for it and removed after the last one. So a name never leads
 * nowhere, whenever the process dies.
 */

import type { StoredLayer } from '../../src/core/contracts/snapshots.ts'
import { type Digest, hexOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { formatReference, parseReference, type Reference } from '../../src/oci/reference.ts'
import type { ImageStore, RecordSpace, ResolvedImage } from '../containers/dependencies.ts'
import { type ImageRecord, readImageRecord } from './image-record.ts'

const IMAGE = 'image/'
const NAME = 'name/'
const SHORTEST_PREFIX = 3
const DURABLE = { sync: true } as const

export interface ListedImage {
  readonly image: ImageRecord
  /** Full names with a tag, sorted. */
  readonly tags: readonly string[]
  /** Full names with a digest, sorted. */
  readonly digests: readonly string[]
}

export interface RemovedImage {
  readonly untagged: readonly string[]
  /** Absent while another name keeps the image. */
  readonly deleted?: ImageRecord
}

/** The part of a Snapshotter that collecting unused layers needs. */
export interface LayerShelf {
  layers(): Promise<StoredLayer[]>
  removeLayer(diffId: Digest): Promise<void>
}

/** The part of OwnBlobs that collecting unused blobs needs. */
export interface BlobShelf {
  list(): Promise<Digest[]>
  remove(digest: Digest): Promise<void>
}

/** A name for a blob and what it unpacks to. */
export function layerPair({ digest, diffId }: { readonly digest: Digest; readonly diffId: Digest }): string {
  return `${digest} ${diffId}`
}

export class Images implements ImageStore {
  readonly #space: RecordSpace
  #making = 0

  constructor(parts: { space: RecordSpace }) {
    this.#space = parts.space
  }

  /** Until it is disposed, nothing is collected: layers and blobs come before the record that needs them. */
  making(): Disposable {
    this.#making += 1
    return {
      [Symbol.dispose]: () => {
        this.#making -= 1
      },
    }
  }

  /** Keeps an image under names; a tag that named another image moves. */
  async save(image: ImageRecord, names: readonly Reference[]): Promise<void> {
    const put = (key: string, value: string) => ({ type: 'put' as const, key, value })
    const record = put(IMAGE + image.manifest, JSON.stringify(image))
    // one wait for the disk
    await this.#space.batch([record, ...names.map((name) => put(NAME + nameOf(name), image.manifest))], DURABLE)
  }

  /** By manifest digest. */
  async get(manifest: Digest): Promise<ImageRecord | undefined> {
    const text = await this.#space.get(IMAGE + manifest)
    return text === undefined ? undefined : readImageRecord(text, manifest)
  }

  async list(): Promise<ListedImage[]> {
    const images: ImageRecord[] = []
    const names: [name: string, manifest: string][] = []
    for await (const [key, value] of this.#space.iterator()) {
      if (key.startsWith(IMAGE)) images.push(readImageRecord(value, key))
      else if (key.startsWith(NAME)) names.push([key.slice(NAME.length), value])
    }
    return images.map((image) => {
      const own = names
        .filter(([, manifest]) => manifest === image.manifest)
        .map(([name]) => name)
        .sort()
      return {
        image,
        tags: own.filter((name) => !name.includes('@')),
        digests: own.filter((name) => name.includes('@')),
      }
    })
  }

  /** By name, manifest digest, id, or a prefix of the id. Throws NOT_FOUND, or BAD_ARGUMENT for a prefix of several. */
  async find(text: string): Promise<{ image: ImageRecord; name?: string }> {
    const named = await this.#named(text)
    if (named !== undefined) return named
    const wanted = text.replace(/^sha(256|512):/, '')
    if (/^[a-f0-9]+$/.test(wanted) && wanted.length >= SHORTEST_PREFIX) {
      const found = (await this.list())
        .map(({ image }) => image)
        .filter((image) => [image.config, image.manifest].some((digest) => hexOf(digest).startsWith(wanted)))
      const exact = found.filter((image) => hexOf(image.config) === wanted || hexOf(image.manifest) === wanted)
      const [first] = exact.length > 0 ? exact : found
      const several = new Set(found.map((image) => image.config)).size > 1
      if (first !== undefined && exact.length === 0 && several)
        throw new DarnerError('BAD_ARGUMENT', `${text} is the start of several image ids`)
      if (first !== undefined) return { image: first }
    }
    throw new DarnerError('NOT_FOUND', `image ${JSON.stringify(text.slice(0, 160))} is not on this host`, {
      way: 'pull it first',
    })
  }

  async resolve(text: string): Promise<ResolvedImage> {
    const { image, name } = await this.find(text)
    return {
      id: image.config,
      reference: name ?? image.config,
      config: JSON.parse(image.configText),
      layers: image.layers.map((one) => one.diffId),
    }
  }

  /** Gives an image one more name; a tag that named another image moves. */
  async tag(source: string, target: Reference): Promise<void> {
    const { image } = await this.find(source)
    await this.#space.put(NAME + nameOf(target), image.manifest, DURABLE)
  }

  /**
   * Takes a name away, and the image with its last name; by id or digest: all its names. Names by digest don't keep an image
   * alone. Throws NOT_FOUND, or CONFLICT when an id has several tags and `force` is not set.
   */
  async remove(text: string, { force }: { force: boolean }): Promise<RemovedImage> {
    const { image, name } = await this.find(text)
    const listed = (await this.list()).find((one) => one.image.manifest === image.manifest)
    const tags = listed?.tags ?? []
    const all = [...tags, ...(listed?.digests ?? [])]
    const others = tags.filter((tag) => tag !== name)
    if (name !== undefined && others.length > 0) {
      await this.#space.del(NAME + name, DURABLE)
      return { untagged: [name] }
    }
    if (name === undefined && tags.length > 1 && !force)
      throw new DarnerError('CONFLICT', `image ${text}: it has ${tags.length} tags: ${tags.join(', ')}`)
    for (const one of all) await this.#space.del(NAME + one, DURABLE)
    await this.#space.del(IMAGE + image.manifest, DURABLE)
    return { untagged: all, deleted: image }
  }

  /** What images need: DiffIDs of unpacked layers, and digests of configs and layer blobs. */
  async referenced(): Promise<{ layers: Set<Digest>; blobs: Set<Digest> }> {
    const layers = new Set<Digest>()
    const blobs = new Set<Digest>()
    for (const { image } of await this.list()) {
      blobs.add(image.config)
      for (const { diffId, digest } of image.layers) {
        layers.add(diffId)
        blobs.add(digest)
      }
    }
    return { layers, blobs }
  }

  /** Which blobs of images that are here unpack to which DiffIDs, as {@link layerPair} names them. */
  async layerPairs(): Promise<Set<string>> {
    return new Set((await this.list()).flatMap(({ image }) => image.layers.map(layerPair)))
  }

  /** Deletes blobs of this host's own that no image needs. */
  async collectBlobs(own: BlobShelf): Promise<void> {
    const there = await own.list()
    // the maker of one of those has saved its image by now, or is still at it
    if (this.#making > 0) return
    const { blobs } = await this.referenced()
    for (const digest of there) if (!blobs.has(digest)) await own.remove(digest)
  }

  /** Removes unpacked layers that neither an image nor `held` needs. Returns what went. */
  async collectLayers(shelf: LayerShelf, held: ReadonlySet<Digest>): Promise<StoredLayer[]> {
    const there = await shelf.layers()
    if (this.#making > 0) return []
    const { layers } = await this.referenced()
    const gone: StoredLayer[] = []
    for (const layer of there) {
      if (layers.has(layer.diffId) || held.has(layer.diffId)) continue
      await shelf.removeLayer(layer.diffId)
      gone.push(layer)
    }
    return gone
  }

  async #named(text: string): Promise<{ image: ImageRecord; name: string } | undefined> {
    let reference: Reference
    try {
      reference = parseReference(text)
    } catch {
      return undefined // ids are no references; the caller goes on with that
    }
    const name = nameOf(reference)
    const manifest = await this.#space.get(NAME + name)
    const image = manifest === undefined ? undefined : await this.get(manifest as Digest)
    return image === undefined ? undefined : { image, name }
  }
}

/** A digest says more than a tag beside it. */
function nameOf({ registry, repository, tag, digest }: Reference): string {
  return formatReference({ registry, repository, ...(digest === undefined ? { tag: tag ?? 'latest' } : { digest }) })
}
