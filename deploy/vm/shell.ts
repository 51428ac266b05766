/** A developer's shell in the virtual machine, on its serial console, with a network by way of this host. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { abortable } from '../../src/core/signals.ts'
import type { DiskOptions, VmDisk } from './disk.ts'
import { Machine } from './machine.ts'
import { projectDisk } from './project-disk.ts'
import { runFolder } from './run-folder.ts'

/** Resolves when the machine is off: leaving the shell does that. */
export async function shellInVm(disk: VmDisk, { say, signal }: DiskOptions): Promise<void> {
  const folder = await runFolder()
  try {
    const project = join(folder, 'project.erofs')
    await projectDisk(project, { signal })
    say('booting the virtual machine; a shell comes in about 20 s')
    const { rows = 24, columns = 80 } = process.stdout
    const terminal = process.env.TERM ?? 'vt100'
    await using machine = new Machine({
      disk,
      project,
      folder,
      words: [`darner.rows=${rows}`, `darner.columns=${columns}`, `darner.term=${terminal}`],
      ports: ['-serial', 'mon:stdio', '-device', 'virtio-serial-pci'],
      network: true,
      stdio: 'inherit',
    })
    await abortable(machine.ended, signal)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
