/** Local volumes: a folder each, with a record beside it. What is listed is whole: the record is written last and removed first. */
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { DarnerError, systemCode } from '../../src/base/errors.ts'
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

export class Volumes {
  readonly #dir: string

  /** `dir` is absolute; it is made when the first volume is. */
  constructor(dir: string) {
    this.#dir = dir
  }

  /** The volume of that name, made when it isn't there. Throws BAD_ARGUMENT, CONFLICT when it has other options. */
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
    if (there) return there
    const option = Object.keys(asked.options ?? {})[0]
    if (option !== undefined)
      throw new DarnerError('UNSUPPORTED', `create ${name}: the volume option ${option} is not offered`, {
        way: 'use a bind mount, or a tmpfs mount with --tmpfs',
      })
    await mkdir(join(this.#dir, name, '_data'), { recursive: true, mode: 0o755 })
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

  async find(name: string): Promise<Volume | undefined> {
    if (!VOLUME_NAME.test(name)) return undefined
    try {
      const json: unknown = JSON.parse(await readFile(join(this.#dir, name, 'volume.json'), 'utf8'))
      return Value.Check(Stored, json) ? this.#shown(json) : undefined
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
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
    const doomed = join(this.#dir, `.gone-${name}`)
    await rm(doomed, { recursive: true, force: true })
    await rename(join(this.#dir, name), doomed)
    await rm(doomed, { recursive: true, force: true })
  }

  /** Deletes what an agent that ended left half removed or half made. */
  async recover(): Promise<void> {
    for (const name of await readdir(this.#dir).catch(() => []))
      if (name.startsWith('.gone-')) await rm(join(this.#dir, name), { recursive: true, force: true })
  }

  #shown({ version: _v, ...rest }: Stored): Volume {
    return { ...rest, path: this.pathOf(rest.name) }
  }
}
