/** Local volumes: a folder each, with a record beside it. What is listed is whole: the record is written last and removed first. */
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { MountRequest } from '../../src/api/container-options.ts'
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

export interface VolumeAsked {
  readonly labels?: Record<string, string>
  readonly options?: Record<string, string>
  readonly anonymous?: boolean
  /** Epoch milliseconds. */
  readonly now: number
}

/** The steps between which what is on the disk of a volume changes, in order. */
export const VOLUME_FAULT_POINTS = ['volume:folder', 'volume:recorded', 'volume:gone'] as const
export type VolumeFaultPoint = (typeof VOLUME_FAULT_POINTS)[number]

/** In the folder of a volume: its record, its record once its removal was begun, its content. */
const RECORD = 'volume.json'
const GONE = 'gone.json'
const CONTENT = '_data'

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
  readonly #fault: (point: VolumeFaultPoint) => void
  readonly #locks = new Locks()

  /** `dir` is absolute; it is made when the first volume is. Without `rooms` no volume has a size. */
  constructor(dir: string, rooms?: VolumeRooms, fault: (point: VolumeFaultPoint) => void = () => {}) {
    this.#dir = dir
    this.#rooms = rooms
    this.#fault = fault
  }

  /**
   * The volume of that name, made when it isn't there; with the options `size` and `inodes` it is kept to them. Throws BAD_ARGUMENT,
   * UNSUPPORTED for other options, HOST_UNABLE where nothing keeps a size, CONFLICT when it is there with another one.
   */
  async ensure(name: string, asked: VolumeAsked): Promise<Volume> {
    checkVolumeName(name)
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
    this.#fault('volume:folder')
    if (quota !== undefined) await this.#rooms?.give(name, this.pathOf(name), quota)
    const stored: Stored = {
      version: 1,
      name,
      labels: asked.labels ?? {},
      options: asked.options ?? {},
      anonymous: asked.anonymous === true,
      createdAt: asked.now,
    }
    await writeWhole(join(this.#dir, name, RECORD), JSON.stringify(stored))
    this.#fault('volume:recorded')
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
      const json: unknown = JSON.parse(await readFile(join(this.#dir, name, RECORD), 'utf8'))
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
    return join(this.#dir, name, CONTENT)
  }

  /** Deletes it with its content. The caller knows that no container has it. */
  async remove(name: string): Promise<void> {
    await this.get(name)
    await this.#rooms?.take(name, this.pathOf(name))
    const folder = join(this.#dir, name)
    const doomed = join(this.#dir, `.gone-${name}`)
    await rm(doomed, { recursive: true, force: true })
    try {
      await rename(folder, doomed)
      this.#fault('volume:gone')
      await rm(doomed, { recursive: true, force: true })
    } catch (error) {
      if (!['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')) throw error
      // no room for one more name in the folder of all: it goes where it is
      await rename(join(folder, RECORD), join(folder, GONE))
      await rm(folder, { recursive: true, force: true })
    }
  }

  /**
   * Deletes what an agent that ended left half removed or half made, and keeps each again to its size. Resolves with folders that have
   * no record and are not empty: somebody may want what is in them.
   */
  async recover(): Promise<string[]> {
    const strays: string[] = []
    for (const name of await readdir(this.#dir).catch(() => [])) {
      const folder = join(this.#dir, name)
      if (name.startsWith('.gone-')) await rm(folder, { recursive: true, force: true })
      else if (VOLUME_NAME.test(name) && !(await this.find(name))) {
        await this.#rooms?.take(name, this.pathOf(name))
        if (await isOver(folder)) await rm(folder, { recursive: true, force: true })
        else strays.push(folder)
      }
    }
    const all = await this.list()
    for (const { name, options, path } of all) {
      const quota = quotaOf(name, options)
      if (quota !== undefined) await this.#rooms?.give(name, path, quota)
    }
    await this.#rooms?.keepOnly(new Set(all.map(({ name }) => name)))
    return strays
  }

  #shown({ version: _v, ...rest }: Stored): Volume {
    return { ...rest, path: this.pathOf(rest.name) }
  }
}

/** Whether its removal was begun, or nothing was put into it yet and it never had a record. */
async function isOver(folder: string): Promise<boolean> {
  try {
    const names = await readdir(folder)
    if (names.includes(GONE)) return true
    if (names.some((name) => name !== CONTENT && name !== `${RECORD}.new`)) return false
    return !names.includes(CONTENT) || (await readdir(join(folder, CONTENT))).length === 0
  } catch (error) {
    if (systemErrorIs(error, 'ENOTDIR')) return false
    throw error
  }
}

/** Throws BAD_ARGUMENT. */
export function checkVolumeName(name: string): void {
  if (VOLUME_NAME.test(name)) return
  throw new DarnerError(
    'BAD_ARGUMENT',
    `create ${name.slice(0, 200)}: "${name.slice(0, 200)}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
  )
}

/** How the volume of a mount is asked for; `quotas` by target. */
export function volumeAsked(
  { target, anonymous, labels }: MountRequest,
  quotas: Readonly<Record<string, DiskQuota>> | undefined,
  now: number,
): VolumeAsked {
  const quota = quotas?.[target]
  const { bytes, inodes } = quota ?? {}
  const options = { size: String(bytes), ...(inodes === undefined ? {} : { inodes: String(inodes) }) }
  return {
    now,
    anonymous: anonymous === true,
    ...(labels === undefined ? {} : { labels }),
    ...(quota === undefined ? {} : { options }),
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
