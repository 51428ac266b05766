/** What lies where for one container: the OCI bundle, conmon's files, and the files that the engine puts into /etc. */
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

export interface Bundle {
  readonly path: string
  readonly config: string
  readonly pidFile: string
  readonly conmonPidFile: string
  /** Resize and log-reopen commands for conmon. */
  readonly control: string
  readonly log: string
  readonly hostname: string
  readonly hosts: string
  readonly resolvConf: string
  /** A folder per exec session, laid out as a bundle too. */
  readonly execs: string
}

/** The layout below `path`, which is absolute; nothing is made. */
export function bundleAt(path: string): Bundle {
  return {
    path,
    config: join(path, 'config.json'),
    pidFile: join(path, 'pid'),
    conmonPidFile: join(path, 'conmon.pid'),
    control: join(path, 'ctl'),
    log: join(path, 'log'),
    hostname: join(path, 'hostname'),
    hosts: join(path, 'hosts'),
    resolvConf: join(path, 'resolv.conf'),
    execs: join(path, 'execs'),
  }
}

/** The one of a side service, inside its container's. */
export function serviceBundle(bundle: Bundle, name: string): Bundle {
  return bundleAt(join(bundle.path, 'services', name))
}

/** Makes the folder (0700: logs and environment are the owner's business). True when there was none. */
export async function makeBundle(bundle: Bundle): Promise<boolean> {
  return (await mkdir(bundle.path, { recursive: true, mode: 0o700 })) !== undefined
}

/** Takes away what a former run left, all but the log. */
export async function clearRun(bundle: Bundle): Promise<void> {
  const left = [bundle.pidFile, bundle.conmonPidFile, bundle.control, bundle.execs]
  const conmons = ['attach', 'winsz', 'shm', 'oom'].map((name) => join(bundle.path, name))
  await Promise.all([...left, ...conmons].map((path) => rm(path, { recursive: true, force: true })))
}

/** Writes a small file whole: under another name first, then renamed. The bundle is made anew at each start, so no fsync. */
export async function writeWhole(path: string, text: string, mode = 0o600): Promise<void> {
  const file = await open(`${path}.new`, 'w', mode)
  try {
    await file.writeFile(text)
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}
