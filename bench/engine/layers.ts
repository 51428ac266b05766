/** Large layers to pull, made once and kept in `.cache/`: a Debian tree by gzip and by zstd, whole or in parts, and a GiB of files. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import type { Digest } from '../../src/core/digest.ts'
import { aSystemdImage } from '../../test/fixtures/images/a-systemd-image.ts'
import { aTar } from '../../test/fixtures/images/a-tar.ts'

const CACHE = fileURLToPath(new URL('../../.cache/bench-layers/', import.meta.url))
/** The GiB: the Debian tree so often, each time below a folder of its own. */
const COPIES = 5
/** Of the list of files of that tree. */
const MAX_LIST_BYTES = 16 * 1024 * 1024

const run = promisify(execFile)

/** How each is called in figures. */
export const LAYER_NAMES = { gzip: 'Debian, gzip', zstd: 'Debian, zstd', gib: '1 GiB, gzip' } as const

export type LayerName = keyof typeof LAYER_NAMES

export const LAYERS = ['gzip', 'zstd', 'gib'] as const satisfies readonly LayerName[]
/** Those that take seconds. */
export const USUAL_LAYERS = ['gzip', 'zstd'] as const satisfies readonly LayerName[]

export interface BigLayer {
  readonly name: string
  readonly mediaType: string
  readonly compression: 'gzip' | 'zstd'
  readonly body: Buffer
  /** The uncompressed tar, for the DiffID of a {@link variant}. */
  readonly tar: string
}

/** What the layers are made of is made, if it isn't there. Needs root, debootstrap and a mirror, and so a place off the stage, which has no network. */
export async function prepareLayers(signal: AbortSignal): Promise<void> {
  await aSystemdImage({ signal })
}

/** Needs root, and {@link prepareLayers} before. */
export async function bigLayers(names: readonly LayerName[], { signal }: { signal: AbortSignal }): Promise<BigLayer[]> {
  await mkdir(CACHE, { recursive: true })
  const tree = await aSystemdImage()
  const debian = () =>
    kept('debian.tar', (to) => run('tar', ['--numeric-owner', '-C', tree, '-cf', to, '.'], { signal }))
  const gib = () =>
    kept('gib.tar', async (to) => {
      for (let copy = 0; copy < COPIES; copy++) {
        const place = ['--transform', `flags=rSh;s,^\\.,copy-${copy},`]
        await run('tar', ['--numeric-owner', '-C', tree, copy === 0 ? '-cf' : '-rf', to, ...place, '.'], { signal })
      }
    })
  const layers: BigLayer[] = []
  for (const name of names)
    layers.push(
      await packed(LAYER_NAMES[name], name === 'gib' ? await gib() : await debian(), name === 'zstd' ? 'zstd' : 'gzip'),
    )
  return layers
}

/** The same Debian tree in `count` gzip layers that unpack to about as many bytes each, parents of what is in one among it. */
export async function debianParts(count: number, { signal }: { signal: AbortSignal }): Promise<BigLayer[]> {
  if (count === 1) return await bigLayers(['gzip'], { signal })
  await mkdir(CACHE, { recursive: true })
  const tree = await aSystemdImage()
  const found = await run('find', [tree, '-mindepth', '1', '-printf', '%s %P\\0'], {
    signal,
    maxBuffer: MAX_LIST_BYTES,
  })
  const entries = found.stdout.split('\0').slice(0, -1).map(entryOf)
  const partBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0) / count
  const parts = Array.from({ length: count }, () => new Set<string>())
  let before = 0
  for (const { bytes, path } of entries) {
    // where its middle is: the largest file has as many bytes as a part
    const part = parts[Math.min(count - 1, Math.floor((before + bytes / 2) / partBytes))]
    before += bytes
    for (let end = path.indexOf('/'); end > 0; end = path.indexOf('/', end + 1)) part?.add(path.slice(0, end))
    part?.add(path)
  }
  const layers: BigLayer[] = []
  for (const [at, paths] of parts.entries()) {
    const tar = await kept(`debian-${at + 1}of${count}.tar`, async (to) => {
      const list = `${to}.list`
      await writeFile(list, [...paths].map((path) => `${path}\0`).join(''))
      const only = ['--no-recursion', '--null', '--verbatim-files-from', '-T', list]
      await run('tar', ['--numeric-owner', '-C', tree, '-cf', to, ...only], { signal })
      await rm(list)
    })
    layers.push(await packed(`Debian, part ${at + 1} of ${count}`, tar, 'gzip'))
  }
  return layers
}

function entryOf(line: string): { bytes: number; path: string } {
  const blank = line.indexOf(' ')
  return { bytes: Number(line.slice(0, blank)), path: line.slice(blank + 1) }
}

async function packed(name: string, tar: string, compression: 'gzip' | 'zstd'): Promise<BigLayer> {
  const suffix = compression === 'gzip' ? 'gz' : 'zst'
  const file = await kept(`${tar.split('/').at(-1)}.${suffix}`, (to) =>
    run('sh', ['-c', compression === 'gzip' ? 'gzip -6 <"$1" >"$2"' : 'zstd -q -3 -o "$2" "$1"', 'sh', tar, to]),
  )
  return {
    name,
    compression,
    mediaType: `application/vnd.oci.image.layer.v1.tar+${compression}`,
    body: await readFile(file),
    tar,
  }
}

async function kept(name: string, make: (path: string) => Promise<unknown>): Promise<string> {
  const path = join(CACHE, name)
  const there = await stat(path).catch(() => undefined)
  if (there) return path
  await make(`${path}.new`)
  await rename(`${path}.new`, path)
  return path
}

/** The same layer with one more small file in front: nobody has it, and it costs no second compression. */
export async function variant(layer: BigLayer, number: number): Promise<{ body: Buffer; diffId: Digest }> {
  const front = aTar([{ name: `variant-${number}`, body: `${number}\n`, mode: 0o644, mtime: 0 }], { end: false })
  const hash = createHash('sha256').update(front)
  for await (const chunk of createReadStream(layer.tar)) hash.update(chunk as Buffer)
  const packedFront = layer.compression === 'gzip' ? gzipSync(front) : zstdCompressSync(front)
  return { body: Buffer.concat([packedFront, layer.body]), diffId: `sha256:${hash.digest('hex')}` as Digest }
}
