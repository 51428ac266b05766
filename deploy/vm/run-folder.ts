/** The folder of one boot: the project's disk, what the system's disk forgets, sockets. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A new one, named after this process; those of processes that were killed are removed. The caller removes it. */
export async function runFolder(): Promise<string> {
  for (const name of await readdir(tmpdir())) {
    const owner = /^darner-vm-(\d+)-\w{6}$/.exec(name)?.[1]
    if (owner !== undefined && !existsSync(`/proc/${owner}`))
      await rm(join(tmpdir(), name), { recursive: true, force: true })
  }
  return mkdtemp(join(tmpdir(), `darner-vm-${process.pid}-`))
}
