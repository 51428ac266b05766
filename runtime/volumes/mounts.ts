/** The mounts that a request names -> mounts of the bundle: volumes made and filled, host paths looked at. */
import { closeSync, existsSync, fstatSync } from 'node:fs'
import { chmod, chown, mkdir, readdir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import type { DeviceRequest, MountRequest } from '../../src/api/container-options.ts'
import type { DiskQuota } from '../../src/api/rich-api.ts'
import { asDarnerError, DarnerError, systemCode } from '../../src/core/errors.ts'
import { extractInto } from '../containers/extract.ts'
import { streamTar } from '../containers/layer-tar.ts'
import { openWithin } from '../linux/foreign-tree.ts'
import { AT_FDCWD, O, openAt, RESOLVE } from '../linux/syscalls.ts'
import { writeWhole } from '../shim/bundle.ts'
import type { OciDevice, OciMount } from '../spec/oci-spec.ts'
import { roomOn } from './fill-room.ts'
import { quotaOf, type Volume, type Volumes, volumeAsked } from './volumes.ts'

export interface MountParts {
  readonly volumes: Volumes
  /** Of volumes that are still to be made, by target. */
  readonly quotas?: Readonly<Record<string, DiskQuota>>
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
  const volume =
    (await parts.volumes.find(source)) ??
    (await parts.volumes.ensure(source, volumeAsked(one, parts.quotas, parts.now)))
  if (one.noCopy !== true) await parts.volumes.alone(source, () => fillVolume(volume, one.target, parts))
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

/**
 * Copies what the image has at `target` into a volume that is empty, or whose filling was cut off. Owner and mode of the folder come along.
 * Another container may have the volume already: what its processes put there meanwhile leads nowhere else.
 */
async function fillVolume(
  { name, path: volume, options }: Volume,
  target: string,
  { rootfs, idBase, signal }: MountParts,
): Promise<void> {
  const mark = join(dirname(volume), 'filling')
  if (!existsSync(mark) && (await readdir(volume)).length > 0) return
  const folder = openWithin(rootfs, target, O.RDONLY | O.DIRECTORY, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS)
  if (folder === undefined) return
  await writeWhole(mark, '')
  const into = openAt(AT_FDCWD, volume, O.PATH | O.DIRECTORY)
  try {
    const opened = Promise.withResolvers<Readable>()
    const read = streamTar(['--sparse', '--', '.'], folder, signal, opened.resolve)
    read.catch(opened.reject)
    const bounded = quotaOf(name, options) === undefined ? { room: roomOn(volume) } : {}
    await extractInto(into, into, await opened.promise, { keepKind: false, idBase: -idBase, ...bounded, signal })
    await read
    const { uid, gid, mode } = fstatSync(folder)
    await chown(volume, uid - idBase, gid - idBase)
    await chmod(volume, mode & 0o7777)
    await rm(mark)
  } catch (error) {
    throw asDarnerError(error, `filling volume ${name} with what the image has at ${target}`)
  } finally {
    closeSync(folder)
    closeSync(into)
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
