/** Mounting an EROFS layer: straight from its files where the kernel can (Linux 6.12), through loop devices elsewhere. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { MS, mount } from '../linux/syscalls.ts'
import { erofsFormat, imageOf } from './erofs.ts'
import { unmountAll } from './mounts.ts'
import { runProgram } from './program.ts'

const PROBE = 'probe-'

export type ErofsWay = 'file' | 'loop'

/** Mounts the layer in `layerDirectory` read-only at `target`. Throws MOUNT_FAILED. */
export async function mountErofs(layerDirectory: string, target: string, way: ErofsWay): Promise<void> {
  const { image, data } = imageOf(layerDirectory)
  try {
    if (way === 'file') mount(image, target, 'erofs', MS.RDONLY, `device=${data}`)
    else await mountByLoop(image, data, target)
  } catch (error) {
    throw new DarnerError('MOUNT_FAILED', `layer ${image}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  }
}

/** Loop devices that free themselves when the mount goes. */
async function mountByLoop(image: string, data: string, target: string): Promise<void> {
  const attached: string[] = []
  try {
    for (const file of [image, data]) {
      const device = (await runProgram('losetup', ['--find', '--show', '--read-only', file])).trim()
      attached.push(device)
    }
    mount(attached[0] ?? '', target, 'erofs', MS.RDONLY, `device=${attached[1] ?? ''}`)
  } finally {
    // detaching a device in use only marks it: the kernel frees it with its last user
    for (const device of attached) await runProgram('losetup', ['--detach', device])
  }
}

/** Makes a small layer and mounts it, which is the only sure sign that this host can. Throws DISK_FULL. */
export async function probeErofs(directory: string): Promise<{ way: ErofsWay } | { way?: undefined; reason: string }> {
  for (const name of await readdir(directory)) {
    // a process that was killed while it probed
    if (!name.startsWith(PROBE)) continue
    await unmountAll(join(directory, name, 'mnt'))
    await rm(join(directory, name), { recursive: true, force: true })
  }
  const probe = await mkdtemp(join(directory, PROBE))
  try {
    const target = join(probe, 'mnt')
    await mkdir(target)
    {
      await using layer = await erofsFormat.open(probe)
      layer.tree?.({ kind: 'dir', children: new Map(), facts: undefined, opaque: false, mark: 0 })
      const written = await layer.finish({ name: '0'.repeat(64) })
      await (await erofsFormat.seal(probe, written, { signal: AbortSignal.timeout(30_000) })).durable
    }
    const reasons: string[] = []
    for (const way of ['file', 'loop'] as const) {
      try {
        await mountErofs(probe, target, way)
        await unmountAll(target)
        return { way }
      } catch (error) {
        reasons.push(error instanceof Error ? error.message : String(error))
      }
    }
    return { reason: reasons.join('; ') }
  } catch (error) {
    const known = asDarnerError(error, `trying an EROFS layer in ${directory}`)
    if (known.code === 'DISK_FULL') throw known // which says nothing of what this host can
    return { reason: error instanceof Error ? error.message : String(error) }
  } finally {
    await rm(probe, { recursive: true, force: true })
  }
}
