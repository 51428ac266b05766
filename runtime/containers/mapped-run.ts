/**
 * The needs of a run in a user namespace beside its root file system: volumes with mapped owners, files owned by its root, a /sys of its
 * network.
 */
import { closeSync } from 'node:fs'
import { chown, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { MountRequest } from '../../src/api/container-options.ts'
import type { IdMap } from '../../src/core/contracts/snapshots.ts'
import { MS, mount } from '../linux/syscalls.ts'
import { inNetns } from '../network/netns.ts'
import type { Bundle } from '../shim/bundle.ts'
import { removeEmpty, runFolder } from '../shim/run-folder.ts'
import { openUserns, showMapped } from '../snapshots/idmap.ts'
import { removeMountPoints } from '../snapshots/mounts.ts'
import type { OciMount } from '../spec/oci-spec.ts'

/** Mounts that stand only until the runtime has its own of them; an empty folder stays, for {@link unstage} at the end of the run. */
export interface MappedRun extends AsyncDisposable {
  /** The root file system. */
  readonly root: string
  /** As they were, volumes by a path where the container's root owns what root owns on disk. */
  readonly mounts: readonly OciMount[]
  /** A read-only /sys of the network namespace, which the container's root may not mount; absent without one. */
  readonly sysfs?: string
}

/**
 * Where an agent with its files in `dir` puts such mounts. Its own folders let nobody pass, and the container's root is nobody on the host.
 */
export function stagingOf(dir: string): string {
  return runFolder('darner-userns', dir)
}

/**
 * Stands them up in `folder`; what an agent that was killed left there is taken away first. `sysctls` are set in the network
 * namespace, which belongs to the host. Throws HOST_UNABLE, MOUNT_FAILED.
 */
export async function mappedRun(
  folder: string,
  facts: {
    readonly idmap: IdMap
    readonly rootfs: string
    readonly asked: readonly MountRequest[]
    readonly mounts: readonly OciMount[]
    readonly netnsPath: string | undefined
    readonly sysctls: Readonly<Record<string, string>>
  },
): Promise<MappedRun> {
  const { idmap, asked, netnsPath, sysctls } = facts
  await removeMountPoints(folder)
  const place = async (name: string) => {
    await mkdir(join(folder, name), { recursive: true, mode: 0o711 })
    return join(folder, name)
  }
  try {
    const root = await place('root')
    mount(facts.rootfs, root, '', MS.BIND, '')
    const mounts: OciMount[] = []
    const userns = asked.some((one) => one.type === 'volume') ? await openUserns(idmap) : undefined
    try {
      for (const [at, one] of facts.mounts.entries()) {
        if (userns === undefined || asked[at]?.type !== 'volume') mounts.push(one)
        else {
          const source = await place(String(at))
          await showMapped(one.source ?? '', source, userns)
          mounts.push({ ...one, source })
        }
      }
    } finally {
      if (userns !== undefined) closeSync(userns)
    }
    const dispose = async () => {
      await removeMountPoints(folder)
      await place('root') // empty: an exec of runc's goes there before it enters the container
    }
    if (netnsPath === undefined) return { root, mounts, [Symbol.asyncDispose]: dispose }
    const sysfs = await place('sys')
    inNetns(netnsPath, (setSysctl) => {
      mount('sysfs', sysfs, 'sysfs', MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC, '')
      for (const [name, value] of Object.entries(sysctls)) setSysctl(name, value)
    })
    return { root, mounts, sysfs, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await removeMountPoints(folder)
    throw error
  }
}

/** A run is over: its folder goes, and those above with the last of them. */
export async function unstage(folder: string): Promise<void> {
  await removeMountPoints(folder)
  await removeEmpty(dirname(folder), dirname(dirname(folder)))
}

/** The files that are bound into /etc are the container's root's, as on any machine. */
export async function giveFiles({ hosts, hostname, resolvConf }: Bundle, { base }: IdMap): Promise<void> {
  for (const path of [hosts, hostname, resolvConf]) await chown(path, base, base)
}
