/** The mounts that a request names -> mounts of the bundle: volumes made and filled, host paths looked at. */
import { closeSync } from 'node:fs'
import { chmod, chown, lchown, lstat, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../../src/base/errors.ts'
import { AT_FDCWD, O, openAt, openBelow, RESOLVE } from '../../src/base/syscalls.ts'
import type { DeviceRequest, MountRequest } from '../../src/wire/container-options.ts'
import { runWithFolder } from '../shim/program.ts'
import type { OciDevice, OciMount } from '../spec/oci-spec.ts'
import type { Volumes } from './volumes.ts'

export interface MountParts {
  readonly volumes: Volumes
  readonly rootfs: string
  readonly now: number
  /** What the root file system adds to each owner; volumes hold a container's own ids. */
  readonly idBase: number
  readonly signal: AbortSignal
}

/** Looks each mount up and fills empty volumes. Throws BAD_ARGUMENT for a host path that isn't there, and what filling throws. */
export async function prepareMounts(asked: readonly MountRequest[], parts: MountParts): Promise<OciMount[]> {
  const mounts: OciMount[] = []
  for (const one of asked) mounts.push(await prepareOne(one, parts))
  return mounts
}

async function prepareOne(one: MountRequest, parts: MountParts): Promise<OciMount> {
  const mode = one.readonly === true ? 'ro' : 'rw'
  if (one.type === 'tmpfs') {
    const options = ['nosuid', 'nodev', 'noexec', ...(one.options ?? [])]
    // `exec`, `suid` and `dev` take their opposites away
    const kept = options.filter((word) => !options.includes(word.replace(/^no/, '')) || !word.startsWith('no'))
    return { destination: one.target, type: 'tmpfs', source: 'tmpfs', options: [...new Set([...kept, mode])] }
  }
  const source = one.source ?? ''
  if (one.type === 'bind') {
    await hostPath(source, one.makeSource === true)
    return bindMount(source, one.target, ['rbind', one.propagation ?? 'rprivate', mode])
  }
  const volume = await parts.volumes.ensure(source, {
    now: parts.now,
    anonymous: one.anonymous === true,
    ...(one.labels === undefined ? {} : { labels: one.labels }),
  })
  if (one.noCopy !== true) await fillVolume(volume.path, one.target, parts)
  return bindMount(volume.path, one.target, ['rbind', one.propagation ?? 'rprivate', mode])
}

const bindMount = (source: string, destination: string, options: string[]): OciMount => ({
  destination,
  type: 'bind',
  source,
  options,
})

async function hostPath(path: string, make: boolean): Promise<void> {
  try {
    await stat(path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
    if (!make)
      throw new DarnerError(
        'BAD_ARGUMENT',
        `invalid mount config for type "bind": bind source path does not exist: ${path}`,
      )
    await mkdir(path, { recursive: true, mode: 0o755 })
  }
}

/** Copies what the image has at `target` into a volume that is empty, with owner and mode of the folder. */
async function fillVolume(volume: string, target: string, { rootfs, idBase, signal }: MountParts): Promise<void> {
  if ((await readdir(volume)).length > 0) return
  const root = openAt(AT_FDCWD, rootfs, O.PATH | O.DIRECTORY)
  let folder: number | undefined
  try {
    folder = openBelow(root, target, O.RDONLY | O.DIRECTORY, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS)
    const facts = await stat(`/proc/self/fd/${folder}`)
    const result = await runWithFolder('cp', ['-a', '--', '/proc/self/fd/3/.', volume], folder, { signal })
    if (result.code !== 0)
      throw new DarnerError('INTERNAL', `filling the volume at ${target}: ${result.stderr.trim().slice(0, 500)}`)
    if (idBase !== 0) await lowerIds(volume, idBase)
    await chown(volume, facts.uid - idBase, facts.gid - idBase)
    await chmod(volume, facts.mode & 0o7777)
  } catch (error) {
    const code = systemCode(error)
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error // the image has no folder there: it stays empty
  } finally {
    if (folder !== undefined) closeSync(folder)
    closeSync(root)
  }
}

/** Takes `idBase` off each owner below a folder. */
async function lowerIds(folder: string, idBase: number): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    const { uid, gid, mode } = await lstat(path)
    if (uid >= idBase && gid >= idBase) await lchown(path, uid - idBase, gid - idBase)
    if (!entry.isSymbolicLink()) await chmod(path, mode & 0o7777) // a change of owner took setuid away
    if (entry.isDirectory()) await lowerIds(path, idBase)
  }
}

/** The nodes that a request names, as the host has them. Throws BAD_ARGUMENT for what is no device. */
export async function prepareDevices(
  asked: readonly DeviceRequest[],
): Promise<{ device: OciDevice; access: string }[]> {
  return await Promise.all(
    asked.map(async ({ host, target, access }) => {
      const facts = await stat(host).catch((error: unknown) => {
        if (systemCode(error) !== 'ENOENT') throw error
        throw new DarnerError(
          'BAD_ARGUMENT',
          `error gathering device information while adding custom device "${host}": no such file or directory`,
        )
      })
      if (!facts.isCharacterDevice() && !facts.isBlockDevice()) {
        throw new DarnerError(
          'BAD_ARGUMENT',
          `error gathering device information while adding custom device "${host}": not a device node`,
        )
      }
      const device: OciDevice = {
        path: target,
        type: facts.isBlockDevice() ? 'b' : 'c',
        major: ((facts.rdev >> 8) & 0xfff) | 0,
        minor: (facts.rdev & 0xff) | ((facts.rdev >> 12) & 0xfff00),
        fileMode: facts.mode & 0o777,
        uid: facts.uid,
        gid: facts.gid,
      }
      return { device, access }
    }),
  )
}
