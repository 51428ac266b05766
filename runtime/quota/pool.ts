/**
 * A pool of files, one fixed-size ext4 each, for hosts without project quotas. A container's writable layer lies in one, so bytes and
 * inodes end where the file system does. What is promised to all of them never exceeds the pool's size.
 */
import { existsSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rm, statfs, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { DiskQuota } from '../../src/api/rich-api.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { systemErrorIs, umount } from '../linux/syscalls.ts'
import { runProgram } from '../shim/program.ts'
import { PROBE_QUOTA, whyNoLimit } from './fill.ts'
import { readJson, writeJson } from './json-file.ts'
import { attachLoop, restoreLoop } from './loop.ts'

const Settings = Type.Object({ version: Type.Literal(1), bytes: Type.Integer({ minimum: 1 }) })
type Settings = Static<typeof Settings>
const Promised = Type.Object({ quota: DiskQuota, fileBytes: Type.Integer({ minimum: 1 }) })
type Promised = Static<typeof Promised>

const BLOCK_BYTES = 4096
const INODE_BYTES = 256
/** Inodes that ext4 keeps for itself, and the folders of an overlay's writable layer. */
const OWN_INODES = 16
const MOST_TRIES = 4
const ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/

/** One folder: `pool.json`, and by container `ID.json` (what was promised) and `ID.ext4`. */
export class QuotaPool {
  readonly #dir: string
  #settings: Settings | undefined

  private constructor(dir: string, settings: Settings | undefined) {
    this.#dir = dir
    this.#settings = settings
  }

  static async open(dir: string): Promise<QuotaPool> {
    return new QuotaPool(dir, await readJson(join(dir, 'pool.json'), Settings))
  }

  /** Undefined before {@link init}. */
  get bytes(): number | undefined {
    return this.#settings?.bytes
  }

  /** Makes the pool, or grows it; it takes room on disk only as containers write. Throws BAD_ARGUMENT for less than is promised. */
  async init(bytes: number): Promise<void> {
    const promised = await this.promisedBytes()
    if (bytes < promised) {
      throw new DarnerError('BAD_ARGUMENT', `a quota pool of ${bytes} bytes: ${promised} are promised to containers`)
    }
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    const settings: Settings = { version: 1, bytes }
    await writeJson(join(this.#dir, 'pool.json'), settings)
    this.#settings = settings
  }

  async promisedBytes(): Promise<number> {
    let sum = 0
    for (const id of await this.ids()) sum += (await this.#promised(id))?.fileBytes ?? 0
    return sum
  }

  /** Containers that have a file system here, whole or not. */
  async ids(): Promise<string[]> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return []
      throw error
    })
    return [...new Set(names.flatMap((name) => /^(.+)\.(?:json|ext4)$/.exec(name)?.[1] ?? []))].filter(
      (id) => id !== 'pool' && ID.test(id),
    )
  }

  async has(id: string): Promise<boolean> {
    // most have none: one short call decides
    return existsSync(this.#promise(id)) && (await this.#promised(id)) !== undefined
  }

  /**
   * Makes the file system of a container unless it is there. The promise is written first: after a crash in the middle the next
   * call makes it anew. Throws HOST_UNABLE without a pool, LIMIT_EXCEEDED when the pool has promised too much, RUNTIME_MISSING.
   */
  async make(id: string, quota: DiskQuota, { signal }: { signal: AbortSignal }): Promise<void> {
    if (!ID.test(id))
      throw new DarnerError('BAD_ARGUMENT', `quota of ${JSON.stringify(id.slice(0, 100))}: not a plain name`)
    if (await this.has(id)) return
    if (this.#settings === undefined) throw new DarnerError('HOST_UNABLE', 'disk quota: this host has no quota pool')
    const draft = join(this.#dir, `${id}.ext4`)
    let fileBytes = firstGuess(quota)
    for (let tries = 1; ; tries++) {
      const promised = await this.promisedBytes()
      if (promised + fileBytes > this.#settings.bytes) {
        const pool = `the pool of ${this.#settings.bytes} has promised ${promised}`
        throw new DarnerError('LIMIT_EXCEEDED', `disk quota of ${quota.bytes} bytes: ${pool}`, {
          way: 'grow it by darner storage init --size',
        })
      }
      await format(draft, fileBytes, quota, signal)
      const free = await this.#freeBytes(draft, signal)
      const lacking = quota.bytes - free
      if (lacking <= 0 && (-lacking < quota.bytes / 64 + BLOCK_BYTES || tries >= MOST_TRIES)) break
      fileBytes += Math.ceil(lacking / BLOCK_BYTES) * BLOCK_BYTES
    }
    const promise: Promised = { quota, fileBytes }
    await writeJson(this.#promise(id), promise)
  }

  /** Mounts it at `target`, which exists; fine when it is mounted there. Throws MOUNT_FAILED. */
  async mount(id: string, target: string, { signal }: { signal: AbortSignal }): Promise<void> {
    if (await mountedAt(target)) return
    await mountFile(join(this.#dir, `${id}.ext4`), target, signal)
  }

  /** Fine when it isn't mounted. */
  unmount(target: string): void {
    unmount(target)
  }

  /** Deletes it and takes the promise back; it is unmounted. */
  async remove(id: string): Promise<void> {
    await rm(join(this.#dir, `${id}.ext4`), { force: true })
    await rm(this.#promise(id), { force: true })
  }

  /**
   * Writes beyond the bytes and the inodes of a file system made for it. Returns why a limit did not bite, or undefined when
   * both did.
   */
  async probe({ signal }: { signal: AbortSignal }): Promise<string | undefined> {
    const file = join(this.#dir, 'probe.ext4.new')
    const target = join(this.#dir, 'probe')
    try {
      await mkdir(target, { recursive: true, mode: 0o700 })
      unmount(target)
      await format(file, firstGuess(PROBE_QUOTA), PROBE_QUOTA, signal)
      await mountFile(file, target, signal)
      return await whyNoLimit(target, { signal })
    } catch (error) {
      signal.throwIfAborted()
      return error instanceof Error ? error.message : String(error)
    } finally {
      unmount(target)
      await rm(file, { force: true })
    }
  }

  async #promised(id: string): Promise<Promised | undefined> {
    return readJson(this.#promise(id), Promised)
  }

  #promise(id: string): string {
    return join(this.#dir, `${id}.json`)
  }

  async #freeBytes(file: string, signal: AbortSignal): Promise<number> {
    const target = join(this.#dir, 'measure')
    await mkdir(target, { recursive: true, mode: 0o700 })
    unmount(target)
    await mountFile(file, target, signal)
    try {
      const { bsize, bavail } = await statfs(target)
      return bsize * bavail
    } finally {
      unmount(target)
    }
  }
}

function firstGuess({ bytes, inodes }: DiskQuota): number {
  const tables = (inodes ?? bytes / 16_384) * INODE_BYTES
  return Math.max(4 << 20, Math.ceil((bytes * 1.03 + tables + (2 << 20)) / BLOCK_BYTES) * BLOCK_BYTES)
}

async function format(file: string, fileBytes: number, { inodes }: DiskQuota, signal: AbortSignal): Promise<void> {
  await rm(file, { force: true })
  await (await open(file, 'wx', 0o600)).close()
  await truncate(file, fileBytes)
  const count = inodes === undefined ? [] : ['-N', String(inodes + OWN_INODES)]
  const options = ['-q', '-F', '-m', '0', '-b', String(BLOCK_BYTES), '-I', String(INODE_BYTES), ...count]
  const made = await runProgram('mkfs.ext4', [...options, '-E', 'nodiscard', file], { signal })
  if (made.code !== 0) throw new DarnerError('COMMAND_FAILED', `mkfs.ext4 ${file}: ${made.stderr.trim().slice(-500)}`)
}

async function mountFile(file: string, target: string, signal: AbortSignal): Promise<void> {
  using device = attachLoop(file)
  const [source, options] = device ? [device.path, 'discard'] : [file, 'loop,discard']
  const done = await runProgram('mount', ['-t', 'ext4', '-o', options, source, target], { signal })
  if (done.code !== 0) throw new DarnerError('MOUNT_FAILED', `mounting ${file}: ${done.stderr.trim().slice(-500)}`)
}

function unmount(target: string): void {
  try {
    restoreLoop(target)
    umount(target) // the loop device goes with its last mount
  } catch (error) {
    if (!systemErrorIs(error, 'EINVAL', 'ENOENT')) throw error
  }
}

async function mountedAt(target: string): Promise<boolean> {
  const rows = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
  return rows.some((row) => row.split(' ')[4]?.replaceAll('\\040', ' ') === target)
}
