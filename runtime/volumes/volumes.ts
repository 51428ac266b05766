/** Local volumes: a folder each, with a record beside it. What is listed is whole: the record is written last and removed first. */
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { DiskQuota } from '../../src/api/rich-api.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { Locks } from '../containers/locks.ts'
import { systemErrorIs } from '../linux/syscalls.ts'
import { writeWhole } from '../shim/bundle.ts'

const Labels = Type.Record(Type.String(), Type.String())
const Stored = Type.Object({
  version: Type.Literal(1),
  name: Type.String(),
  labels: Labels,
  options: Labels,
  /** Made without a name, for one container. */
  anonymous: Type.Boolean(),
  /** Epoch milliseconds. */
  createdAt: Type.Number(),
})
type Stored = Static<typeof Stored>

export interface Volume extends Omit<Stored, 'version'> {
  /** Absolute path of its content. */
  readonly path: string
}

export const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/

/** What keeps volumes to the size that they were made with. */
export interface VolumeRooms {
  /** Puts the folder of a volume under a quota; fine to call again. Throws HOST_UNABLE where nothing enforces it. */
  give(name: string, folder: string, quota: DiskQuota): Promise<void>
  /** Before its folder is deleted. Fine for one that has none. */
  take(name: string, folder: string): Promise<void>
  /** Takes back what volumes that are no more have left. */
  keepOnly(names: ReadonlySet<string>): Promise<void>
}

export class Volumes {
  readonly #dir: string
  readonly #rooms: VolumeRooms | undefined
  readonly #locks = new Locks()

  /** `dir` is absolute; it is made when the first volume is. Without `rooms` no volume has a size. */
  constructor(dir: string, rooms?: VolumeRooms) {
    this.#dir = dir
    this.#rooms = rooms
  }

  /**
   * The volume of that name, made when it isn't there; with the options `size` and `inodes` it is kept to them. Throws BAD_ARGUMENT,
   * UNSUPPORTED for other options, HOST_UNABLE where nothing keeps a size, CONFLICT when it is there with another one.
   */
  async ensure(
    name: string,
    asked: { labels?: Record<string, string>; options?: Record<string, string>; anonymous?: boolean; now: number },
  ): Promise<Volume> {
    if (!VOLUME_NAME.test(name)) {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `create ${name.slice(0, 200)}: "${name.slice(0, 200)}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
      )
    }
    const there = await this.find(name)
    if (there) {
      const [quota, has] = [asked.options ?? {}, there.options].map((options) => quotaOf(name, options))
      if (quota === undefined || (quota.bytes === has?.bytes && quota.inodes === has.inodes)) return there
      throw new DarnerError('CONFLICT', `create ${name}: the volume is there with other options`)
    }
    const quota = quotaOf(name, asked.options ?? {})
    if (quota !== undefined && this.#rooms === undefined)
      throw new DarnerError('HOST_UNABLE', `create ${name}: this engine keeps no volume to a size`)
    await mkdir(this.pathOf(name), { recursive: true, mode: 0o755 })
    if (quota !== undefined) await this.#rooms?.give(name, this.pathOf(name), quota)
    const stored: Stored = {
      version: 1,
      name,
      labels: asked.labels ?? {},
      options: asked.options ?? {},
      anonymous: asked.anonymous === true,
      createdAt: asked.now,
    }
    await writeWhole(join(this.#dir, name, 'volume.json'), JSON.stringify(stored))
    return this.#shown(stored)
  }

  /** Runs `work` after all that was asked for of the volume of that name before. */
  async alone(name: string, work: () => Promise<void>): Promise<void> {
    await this.#locks.hold(name, work)
  }

  /** A folder whose record is none, and what is no folder, are no volumes. */
  async find(name: string): Promise<Volume | undefined> {
    if (!VOLUME_NAME.test(name)) return undefined
    try {
      const json: unknown = JSON.parse(await readFile(join(this.#dir, name, 'volume.json'), 'utf8'))
      return Value.Check(Stored, json) ? this.#shown(json) : undefined
    } catch (error) {
      if (error instanceof SyntaxError || systemErrorIs(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
  }

  /** Throws NOT_FOUND. */
  async get(name: string): Promise<Volume> {
    const found = await this.find(name)
    if (found) return found
    throw new DarnerError('NOT_FOUND', `get ${name.slice(0, 200)}: no such volume`)
  }

  /** By name. */
  async list(): Promise<Volume[]> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return []
      throw error
    })
    const all = await Promise.all(names.sort().map((name) => this.find(name)))
    return all.filter((one) => one !== undefined)
  }

  /** Where the content of a volume of that name lies, whether it is there or not. */
  pathOf(name: string): string {
    return join(this.#dir, name, '_data')
  }

  /** Deletes it with its content. The caller knows that no container has it. */
  async remove(name: string): Promise<void> {
    await this.get(name)
    await this.#rooms?.take(name, this.pathOf(name))
    const doomed = join(this.#dir, `.gone-${name}`)
    await rm(doomed, { recursive: true, force: true })
    await rename(join(this.#dir, name), doomed)
    await rm(doomed, { recursive: true, force: true })
  }

  /** Deletes what an agent that ended left half removed or half made, and keeps each again to its size. */
  async recover(): Promise<void> {
    for (const name of await readdir(this.#dir).catch(() => [])) {
      if (name.startsWith('.gone-')) await rm(join(this.#dir, name), { recursive: true, force: true })
      else if (VOLUME_NAME.test(name) && !(await this.find(name))) await this.#rooms?.take(name, this.pathOf(name))
    }
    const all = await this.list()
    for (const { name, options, path } of all) {
      const quota = quotaOf(name, options)
      if (quota !== undefined) await this.#rooms?.give(name, path, quota)
    }
    await this.#rooms?.keepOnly(new Set(all.map(({ name }) => name)))
  }

  #shown({ version: _v, ...rest }: Stored): Volume {
    return { ...rest, path: this.pathOf(rest.name) }
  }
}

const SIZE = /^(\d{1,15})([kmgt]?)i?b?$/i
const SHIFTS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** What the options `size` (`10G`) and `inodes` (a number) say; `name` is the volume's. Throws BAD_ARGUMENT, UNSUPPORTED for other options. */
export function quotaOf(
  name: string,
  { size, inodes, ...others }: Readonly<Record<string, string>>,
): DiskQuota | undefined {
  const [option] = Object.keys(others)
  if (option !== undefined)
    throw new DarnerError('UNSUPPORTED', `create ${name}: the volume option ${option} is not offered`, {
      way: 'use a bind mount, or a tmpfs mount with --tmpfs',
    })
  if (size === undefined && inodes === undefined) return undefined
  const [, digits, unit = ''] = SIZE.exec(size ?? '') ?? []
  const bytes = Number(digits) * (SHIFTS[unit.toLowerCase()] ?? Number.NaN)
  if (!Number.isSafeInteger(bytes) || bytes < 1 << 20)
    throw new DarnerError('BAD_ARGUMENT', `create ${name}: the option size=${size ?? ''} is not a size of 1m or more`)
  if (inodes === undefined) return { bytes }
  if (!/^\d{2,10}$/.test(inodes) || Number(inodes) < 16)
    throw new DarnerError('BAD_ARGUMENT', `create ${name}: the option inodes=${inodes} is not a number of 16 or more`)
  return { bytes, inodes: Number(inodes) }
}
