/**
 * Owners of files as a user namespace sees them. A container's root is an ordinary user of the host. Idmapped mounts show it files of the
 * host's root as its own, without copying or changing a file.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { IdMap } from '../../src/core/contracts/snapshots.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { mountMapped } from '../linux/syscalls.ts'
import { PROGRAM_ENV } from '../shim/program.ts'
import { unmountAll } from './mounts.ts'

/** A descriptor of a new user namespace with that map; its user closes it. Throws HOST_UNABLE. */
export async function openUserns({ base, size }: IdMap): Promise<number> {
  // the child writes once it is in the namespace, and stays until its stdin ends
  const child = spawn('unshare', ['--user', 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: PROGRAM_ENV,
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const gone = once(child, 'close').catch(() => {}) // the error is reported below
  try {
    const ready = await Promise.race([
      once(child.stdout, 'data').then(() => true),
      gone.then(() => false),
      once(child, 'error').then(() => false),
    ])
    if (!ready) throw new DarnerError('HOST_UNABLE', `user namespaces: unshare ended: ${said.trim().slice(-300)}`)
    const proc = `/proc/${child.pid}`
    for (const file of ['uid_map', 'gid_map']) await writeFile(join(proc, file), `0 ${base} ${size}\n`)
    return openSync(join(proc, 'ns/user'), 'r')
  } finally {
    child.stdin.on('error', () => {}) // it is gone
    child.stdin.end()
    await gone
  }
}

/** Shows `source` at the folder `target`, which is made, with owners mapped. Throws MOUNT_FAILED. */
export async function showMapped(source: string, target: string, userns: number): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o711 })
  try {
    mountMapped(source, target, userns, closeSync)
  } catch (error) {
    throw new DarnerError('MOUNT_FAILED', `${source} with mapped owners: ${(error as Error).message}`, { cause: error })
  }
}

/** Why the file system of `directory` can't be shown with mapped owners; undefined when it can. Tries it. */
export async function probeIdmap(directory: string): Promise<string | undefined> {
  const probe = await mkdtemp(join(directory, 'probe-'))
  try {
    const userns = await openUserns({ base: 100_000, size: 65_536 })
    try {
      await showMapped(directory, join(probe, 'mnt'), userns)
      return undefined
    } finally {
      closeSync(userns)
      await unmountAll(join(probe, 'mnt'))
    }
  } catch (error) {
    return (error as Error).message
  } finally {
    await rm(probe, { recursive: true, force: true })
  }
}
