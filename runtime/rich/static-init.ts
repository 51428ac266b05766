/** The small init of this host that is bound into `dumb-init` containers: it must need nothing of the image. */
import { open } from 'node:fs/promises'
import { DarnerError, systemCode } from '../../src/core/errors.ts'

/** In this order; the arguments come before the container's command. */
const CANDIDATES: readonly (readonly [path: string, ...args: string[]])[] = [
  ['/usr/bin/dumb-init', '--'],
  ['/usr/local/bin/dumb-init', '--'],
  ['/usr/bin/tini-static', '-g', '--'],
  ['/usr/local/bin/tini-static', '-g', '--'],
  ['/usr/bin/tini', '-g', '--'],
  ['/usr/libexec/docker/docker-init', '-g', '--'],
]

const PT_INTERP = 3
const MOST_HEADERS = 128

export interface StaticInit {
  readonly path: string
  readonly args: readonly string[]
}

/** The first program that is there and linked statically. Throws HOST_UNABLE, saying what was looked at. */
export async function findStaticInit(
  candidates: readonly (readonly [path: string, ...args: string[]])[] = CANDIDATES,
): Promise<StaticInit> {
  const seen: string[] = []
  for (const [path, ...args] of candidates) {
    const verdict = await linkedStatically(path)
    if (verdict === true) return { path, args }
    if (verdict === false) seen.push(`${path} needs a loader and libraries`)
  }
  const why = seen.length > 0 ? seen.join(', ') : `not found: ${candidates.map(([path]) => path).join(', ')}`
  throw new DarnerError('HOST_UNABLE', `no static init to bind into the container: ${why}`, {
    way: 'apt install tini (it brings tini-static)',
  })
}

/** ELF without a PT_INTERP header (elf(5)); undefined when it isn't there or no 64-bit little-endian ELF. */
export async function linkedStatically(path: string): Promise<boolean | undefined> {
  try {
    await using file = await open(path)
    const head = Buffer.alloc(64)
    if ((await file.read(head, 0, 64, 0)).bytesRead < 64) return undefined
    if (head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2 || head[5] !== 1) return undefined
    const at = Number(head.readBigUInt64LE(32))
    const entryBytes = head.readUInt16LE(54)
    const count = head.readUInt16LE(56)
    if (entryBytes < 56 || count > MOST_HEADERS) return undefined
    const headers = Buffer.alloc(entryBytes * count)
    if ((await file.read(headers, 0, headers.length, at)).bytesRead < headers.length) return undefined
    return !Array.from({ length: count }, (_, row) => headers.readUInt32LE(row * entryBytes)).includes(PT_INTERP)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}
