/** One boot of the virtual machine under QEMU's emulation: no KVM, no network beyond QEMU's own, a disk that forgets. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { endOf } from '../demo/command.ts'
import { ROOT } from '../demo/places.ts'
import type { VmDisk } from './disk.ts'

const MEMORY_MIB = 4096
const CPUS = 2
/** Without what costs the emulation a flush of its page tables at each use: V8 switches protection keys thousands of times a second. */
const CPU = 'max,-pku,-la57,-smap,-smep'

export interface BootOptions {
  readonly disk: VmDisk
  /** An EROFS image. */
  readonly project: string
  /** A folder of this boot's own: what the disk forgets lies in it. */
  readonly folder: string
  /** Words for the kernel's command line. */
  readonly words: readonly string[]
  /** Arguments of QEMU for the serial console and further ports. */
  readonly ports: readonly string[]
  readonly network: boolean
  readonly stdio: StdioOptions
}

/** A running machine. Disposing ends it at once. */
export class Machine implements AsyncDisposable {
  readonly child: ChildProcess
  readonly ended: Promise<number | string>

  constructor(options: BootOptions) {
    // it never outlives this process, however that ends
    const [program = '', ...args] = ['setpriv', '--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(options)]
    this.child = spawn(program, args, { stdio: options.stdio, env: { ...process.env, TMPDIR: options.folder } })
    this.ended = endOf(this.child)
    this.ended.catch(() => {}) // told by whoever waits
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL')
    await this.ended.catch(() => {})
  }
}

/** Pure: what QEMU is told. Both disks are namespaces of one NVMe controller, whose driver is in the kernel: no initrd. */
export function qemuArguments({
  disk,
  project,
  words,
  ports,
  network,
}: Omit<BootOptions, 'folder' | 'stdio'>): string[] {
  const drive = (id: string, file: string, more: string) => [
    '-drive',
    `file=${file.replaceAll(',', ',,')},if=none,id=${id},format=raw,${more}`,
  ]
  const root = `darner.root=${Buffer.from(ROOT).toString('base64')}`
  const always = ['root=/dev/nvme0n1', 'rw', 'console=ttyS0', 'panic=-1', 'mitigations=off', 'audit=0', 'quiet', root]
  return [
    ...['-M', 'q35', '-accel', 'tcg,thread=multi,tb-size=1024', '-cpu', CPU],
    ...['-smp', String(CPUS), '-m', `${MEMORY_MIB}M`, '-nodefaults', '-display', 'none', '-no-reboot'],
    ...['-kernel', disk.kernel, '-append', [...always, ...words].join(' ')],
    ...['-device', 'nvme,id=nvme,serial=darner'],
    ...drive('system', disk.disk, 'cache=unsafe,snapshot=on'),
    ...['-device', 'nvme-ns,drive=system,bus=nvme,nsid=1'],
    ...drive('project', project, 'readonly=on'),
    ...['-device', 'nvme-ns,drive=project,bus=nvme,nsid=2'],
    ...['-device', 'virtio-rng-pci'],
    ...(network ? ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='] : []),
    ...ports,
  ]
}
