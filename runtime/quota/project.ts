/**
 * Project quotas of the file system that writable layers lie on: xfs and ext4 mounted with `prjquota`. Limits are set by xfs_quota(8) and
 * setquota(8). Only {@link ProjectQuota.probe} shows whether the kernel enforces them.
 */
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import type { DiskQuota } from '../../src/api/rich-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { runProgram } from '../shim/program.ts'
import { PROBE_QUOTA, whyNoLimit } from './fill.ts'
import { readJson, writeJson } from './json-file.ts'
import { markTree, projectOf } from './mark.ts'

const Projects = Type.Object({
  version: Type.Literal(1),
  /** Project id by container. */
  used: Type.Record(Type.String(), Type.Integer({ minimum: 1 })),
  /** Containers whose whole folder has its project: what is made there later inherits it. */
  marked: Type.Optional(Type.Array(Type.String())),
  /** Where the search for a free id begins: one that was given back is the last to be taken again. */
  next: Type.Optional(Type.Integer({ minimum: 1 })),
})

/** Far from ids that administrators give by hand. */
const FIRST_ID = 1_000_000
const LAST_ID = 2_000_000
const PROBE = 'probe'
/** The folders of an overlay's writable layer count too. */
const OWN_INODES = 4

export interface ProjectFileSystem {
  readonly kind: 'xfs' | 'ext4'
  readonly mountPoint: string
}

/** The file system that holds `path`, when it is mounted with project quotas (proc_pid_mountinfo(5)); else undefined. */
export function projectFileSystem(mountinfo: string, path: string): ProjectFileSystem | undefined {
  let best: { mountPoint: string; kind: string; options: string } | undefined
  for (const line of mountinfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ')
    const mountPoint = left.split(' ')[4]?.replaceAll('\\040', ' ')
    const [kind = '', , options = ''] = right.split(' ')
    if (mountPoint === undefined) continue
    const holds = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`)
    if (holds && (best === undefined || mountPoint.length >= best.mountPoint.length))
      best = { mountPoint, kind, options }
  }
  const { kind } = best ?? {}
  if (!best || (kind !== 'xfs' && kind !== 'ext4')) return undefined
  return best.options.split(',').some((one) => one === 'prjquota' || one === 'pquota')
    ? { kind, mountPoint: best.mountPoint }
    : undefined
}

/**
 * Ids are recorded before they are used and given back after their limit is gone: a crash never gives one to two containers.
 * Which folder is marked is recorded after it is: a crash in between marks it again.
 */
export class ProjectQuota {
  readonly #dir: string
  readonly #system: ProjectFileSystem
  readonly #used: Map<string, number>
  readonly #marked: Set<string>
  #next: number
  #writing: Promise<unknown> = Promise.resolve()

  private constructor(dir: string, system: ProjectFileSystem, kept: Static<typeof Projects> | undefined) {
    this.#dir = dir
    this.#system = system
    this.#used = new Map(Object.entries(kept?.used ?? {}))
    this.#marked = new Set(kept?.marked)
    this.#next = kept?.next ?? FIRST_ID
  }

  /** Reads which ids are taken from `dir`, which exists. */
  static async open(dir: string, system: ProjectFileSystem): Promise<ProjectQuota> {
    return new ProjectQuota(dir, system, await readJson(join(dir, 'projects.json'), Projects))
  }

  ids(): string[] {
    return [...this.#used.keys()].filter((id) => id !== PROBE)
  }

  /** Whether a folder, which exists, lies on the file system that has the projects. */
  async holds(folder: string): Promise<boolean> {
    const [one, whole] = await Promise.all([stat(folder), stat(this.#system.mountPoint)])
    return one.dev === whole.dev
  }

  /** The project id of a container, taken now unless it has one. Throws LIMIT_EXCEEDED when all are taken. */
  async take(id: string): Promise<number> {
    const has = this.#used.get(id)
    if (has !== undefined) return has
    const taken = new Set(this.#used.values())
    for (let tries = 0; tries < LAST_ID - FIRST_ID; tries++) {
      const one = this.#next
      this.#next = one + 1 < LAST_ID ? one + 1 : FIRST_ID
      if (taken.has(one)) continue
      this.#used.set(id, one)
      await this.#save()
      return one
    }
    throw new DarnerError('LIMIT_EXCEEDED', `disk quota: all project ids from ${FIRST_ID} to ${LAST_ID} are taken`)
  }

  /**
   * Puts the folder, what is in it and all that will be, under the quota; called again, it changes the limits at once. Links,
   * pipes and devices that are there already are not counted. Throws COMMAND_FAILED, RUNTIME_MISSING.
   */
  async apply(id: string, folder: string, quota: DiskQuota, { signal }: { signal: AbortSignal }): Promise<void> {
    const project = await this.take(id)
    await this.#limit(project, quota.bytes, quota.inodes === undefined ? 0 : quota.inodes + OWN_INODES, signal)
    if (this.#marked.has(id) && projectOf(folder) === project) return
    await markTree(folder, project, { signal })
    this.#marked.add(id)
    await this.#save()
  }

  /** Takes limit and id back; the folder is gone. Fine for a container that has none. */
  async release(id: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const project = this.#used.get(id)
    if (project === undefined) return
    await this.#limit(project, 0, 0, signal)
    this.#used.delete(id)
    this.#marked.delete(id)
    await this.#save()
  }

  /** Writes beyond a small quota. Returns why it did not bite, or undefined when it did. */
  async probe(folder: string, { signal }: { signal: AbortSignal }): Promise<string | undefined> {
    const inside = join(folder, `quota-probe-${process.pid}`)
    try {
      await mkdir(inside, { mode: 0o700 })
      await this.apply(PROBE, inside, PROBE_QUOTA, { signal })
      return await whyNoLimit(inside, { signal })
    } catch (error) {
      signal.throwIfAborted()
      return error instanceof Error ? error.message : String(error)
    } finally {
      await rm(inside, { recursive: true, force: true })
      await this.release(PROBE, { signal }).catch(() => {}) // the id stays taken, which harms nobody
    }
  }

  async #limit(project: number, bytes: number, inodes: number, signal: AbortSignal): Promise<void> {
    const { kind, mountPoint } = this.#system
    if (kind === 'xfs') {
      await must('xfs_quota', ['-x', '-c', `limit -p bhard=${bytes} ihard=${inodes} ${project}`, mountPoint], signal)
    } else {
      const blocks = String(Math.ceil(bytes / 1024))
      await must('setquota', ['-P', String(project), '0', blocks, '0', String(inodes), mountPoint], signal)
    }
  }

  /** One write after the other, each with all that is taken by then. */
  #save(): Promise<void> {
    const saved = this.#writing.then(() => {
      const kept: Static<typeof Projects> = {
        version: 1,
        used: Object.fromEntries(this.#used),
        marked: [...this.#marked],
        next: this.#next,
      }
      return writeJson(join(this.#dir, 'projects.json'), kept)
    })
    this.#writing = saved.catch(() => {}) // its caller gets the failure
    return saved
  }
}

/** xfs_quota ends with 0 whatever happened: a complaint is a failure. */
async function must(program: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  const { code, stderr, stdout } = await runProgram(program, args, { signal })
  const complaint = stderr.trim() || (code === 0 ? '' : stdout.trim())
  if (code !== 0 || complaint !== '') {
    throw new DarnerError('COMMAND_FAILED', `${program}: ${complaint.slice(-500) || `exit code ${code}`}`)
  }
}
