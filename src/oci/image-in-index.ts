/** Which images a reference leads to, through indexes within indexes (image-spec, image-index.md). */
import { DarnerError, isDarnerError } from '../core/errors.ts'
import type { Descriptor, Manifest, ParsedManifest, Platform } from './manifest.ts'
import { entriesFor } from './platform.ts'

/** Most indexes within each other. */
const MAX_DEPTH = 4
/** Most documents that are read to find one image. */
const MAX_READS = 32

/** A document that was read, with whatever else its reader wants back. */
export interface ReadDocument {
  readonly parsed: ParsedManifest
}

/** Reads what an entry of an index names. */
export type ReadEntry<D> = (entry: Descriptor) => Promise<D>

export interface FoundImage<D> {
  readonly document: D
  readonly manifest: Manifest
  /** Whether an index said which platform it is for; else nothing but its config can. */
  readonly stated: boolean
}

/**
 * The image for `wanted` that `first` is or leads to. `name` is what to call it in messages. Throws PLATFORM_MISSING,
 * LIMIT_EXCEEDED, and what `read` throws.
 */
export async function findImage<D extends ReadDocument>(
  first: D,
  wanted: Platform,
  { name, read }: { name: string; read: ReadEntry<D> },
): Promise<FoundImage<D>> {
  let reads = 0
  const within = async (document: D, depth: number, stated: boolean): Promise<FoundImage<D>> => {
    const { parsed } = document
    if (parsed.kind === 'manifest') return { document, manifest: parsed.manifest, stated }
    if (depth === MAX_DEPTH) throw tooDeep(name)
    let missing: unknown
    for (const entry of entriesFor(parsed.index, wanted)) {
      if (++reads > MAX_READS)
        throw new DarnerError('LIMIT_EXCEEDED', `${name}: more than ${MAX_READS} documents to look through`)
      try {
        return await within(await read(entry), depth + 1, Boolean(entry.platform))
      } catch (error) {
        // another index beside it may have one
        if (!isDarnerError(error, 'PLATFORM_MISSING')) throw error
        missing ??= error
      }
    }
    throw missing
  }
  return await within(first, 0, false)
}

/** All images that `first` is or leads to, at most `most` documents below it. Throws LIMIT_EXCEEDED, and what `read` throws. */
export async function everyImage<D extends ReadDocument>(
  first: D,
  { name, read, most }: { name: string; read: ReadEntry<D>; most: number },
): Promise<Manifest[]> {
  const manifests: Manifest[] = []
  let waiting = [first.parsed]
  for (let depth = 0, count = 0; waiting.length > 0; depth++) {
    const entries: Descriptor[] = []
    for (const parsed of waiting) {
      if (parsed.kind === 'manifest') manifests.push(parsed.manifest)
      else entries.push(...parsed.index.manifests)
    }
    count += entries.length
    if (count > most)
      throw new DarnerError('LIMIT_EXCEEDED', `${name}: ${count} platforms, more than ${most}`, {
        way: 'name one with --platform',
      })
    if (depth === MAX_DEPTH && entries.length > 0) throw tooDeep(name)
    waiting = await Promise.all(entries.map(async (entry) => (await read(entry)).parsed))
  }
  return manifests
}

function tooDeep(name: string): DarnerError {
  return new DarnerError('LIMIT_EXCEEDED', `${name}: more than ${MAX_DEPTH} indexes within each other`)
}
