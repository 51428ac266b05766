/** One boot of the virtual machine under QEMU's emulation: no KVM, no network beyond QEMU's own, a disk that forgets. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { endOf } from '../demo/command.ts'
import { ROOT } from '../demo/places.ts'
import type { VmDisk } from './disk.ts'

const MEMORY_MIB = 4096
const CPUS = 2
/**
 * Without what is dear in emulation: protection keys, which V8 switches thousands of times a second, each time a flush; and moving
 * memory byte by byte, as processors that have it in hardware say they do well.
 */
const CPU = 'max,-pku,-la57,-smap,-smep,-erms,-fsrm,-fsrc,-fsrs,-fzrm'
/**
 * For the kernel, in the same spirit: pages are cleared one by one, when they are used, and no fences stand against other guests. Time
 * is the board's: on a loaded host the processor's counter is measured wrongly, and the guest's clock ran five times too fast; and
 * the look whether the timer ticks is left out, since there it fails while nothing is wrong.
 */
const WORDS = [
  ...['root=/dev/nvme0n1', 'rw', 'console=ttyS0', 'panic=-1', 'quiet', 'audit=0', 'mitigations=off', 'init_on_alloc=0'],
  ...['transparent_hugepage=never', 'clearcpuid=rep_good', 'clocksource=hpet', 'tsc=unstable', 'random.trust_cpu=on'],
  'no_timer_check',
]

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

/** Pure: what QEMU is told. The system is an NVMe disk, whose driver is in the kernel: no initrd. */
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
  return [
    ...['-M', 'q35', '-accel', 'tcg,thread=multi,tb-size=1024', '-cpu', CPU],
    ...['-smp', String(CPUS), '-m', `${MEMORY_MIB}M`, '-nodefaults', '-display', 'none', '-no-reboot'],
    ...['-kernel', disk.kernel, '-append', [...WORDS, root, ...words].join(' ')],
    ...['-device', 'nvme,id=nvme,serial=darner'],
    ...drive('system', disk.disk, 'cache=unsafe,snapshot=on'),
    ...['-device', 'nvme-ns,drive=system,bus=nvme,nsid=1'],
    ...drive('project', project, 'readonly=on'),
    ...['-device', 'virtio-blk-pci,drive=project'],
    ...['-device', 'virtio-rng-pci'],
    ...(network ? ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='] : []),
    ...ports,
  ]
}
