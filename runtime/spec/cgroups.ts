/** Which cgroup layout this host has and where each controller is: v1, hybrid (v1 plus a cgroup2 mount) or v2. */
import { closeSync, constants, openSync, write } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemCode } from '../../src/core/errors.ts'

export interface CgroupLayout {
  readonly kind: 'v1' | 'hybrid' | 'v2' | 'none'
  /** Mount point by v1 controller name; the systemd hierarchy is `name=systemd`. */
  readonly v1: ReadonlyMap<string, string>
  /** Mount point of cgroup2, and the controllers that it owns. */
  readonly v2: { readonly path: string; readonly controllers: readonly string[] } | undefined
}

/** Reads /proc/self/mountinfo; of several mounts of one hierarchy the first counts. */
export async function readCgroupLayout(): Promise<CgroupLayout> {
  const found = parseCgroupMounts(await readFile('/proc/self/mountinfo', 'utf8'))
  if (found.v2Path === undefined) return { kind: found.v1.size > 0 ? 'v1' : 'none', v1: found.v1, v2: undefined }
  const text = await readFile(join(found.v2Path, 'cgroup.controllers'), 'utf8').catch(() => '')
  const controllers = text.split(/\s+/).filter((one) => one !== '')
  const kind = [...found.v1.keys()].some((one) => !one.startsWith('name=')) ? 'hybrid' : 'v2'
  return { kind, v1: found.v1, v2: { path: found.v2Path, controllers } }
}

/** Where its hierarchies are mounted, each once; cgroup2 first. */
export function cgroupRoots({ v1, v2 }: CgroupLayout): string[] {
  return [...new Set([...(v2 ? [v2.path] : []), ...v1.values()])]
}

/** The cgroup mounts out of a mountinfo text (proc_pid_mountinfo(5)). */
export function parseCgroupMounts(mountinfo: string): { v1: Map<string, string>; v2Path: string | undefined } {
  const v1 = new Map<string, string>()
  let v2Path: string | undefined
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ')
    const path = left
      ?.split(' ')[4]
      ?.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
    const [type, , options] = right?.split(' ') ?? []
    if (path === undefined) continue
    if (type === 'cgroup2') v2Path ??= path
    if (type !== 'cgroup') continue
    for (const option of options?.split(',') ?? []) {
      if (!/^(rw|ro|xattr|noprefix|release_agent=.*|clone_children)$/.test(option) && !v1.has(option))
        v1.set(option, path)
    }
  }
  return { v1, v2Path }
}

/** Place below its hierarchy's root by controller; the empty name is cgroup2's (cgroups(7), "/proc/PID/cgroup"). */
export function parsePlaces(proc: string): Map<string, string> {
  const places = new Map<string, string>()
  for (const line of proc.split('\n')) {
    const [, names, place] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (names !== undefined && place !== undefined) for (const name of names.split(',')) places.set(name, place)
  }
  return places
}

/**
 * Moves a process out of the agent's own cgroup wherever a service manager would end it with the agent. Those are the cgroup2 tree and the
 * `name=systemd` hierarchy. `path` is below the hierarchy's root, such as `/darner/conmon`.
 */
export async function moveToCgroup(layout: CgroupLayout, path: string, pid: number): Promise<void> {
  const roots = [layout.v2?.path, layout.v1.get('name=systemd')].filter((one) => one !== undefined)
  await Promise.all(
    roots.map(async (root) => {
      const folder = join(root, path)
      const enter = () => writeProcs(join(folder, 'cgroup.procs'), String(pid))
      await enter().catch(async (error: unknown) => {
        if (systemCode(error) !== 'ENOENT') throw error
        await mkdir(folder, { recursive: true })
        await enter()
      })
    }),
  )
}

/** Writes to a `cgroup.procs` that is there. Only the write may wait, for other processors; each call that can't is made at once. */
export async function writeProcs(file: string, text: string): Promise<void> {
  const fd = openSync(file, constants.O_WRONLY)
  try {
    await writeTo(fd, text)
  } finally {
    closeSync(fd)
  }
}

const writeTo = promisify(write)
