/** The virtual machine's system disk and kernel, made once of Debian's packages and kept in `.cache/vm`. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { run } from '../demo/command.ts'
import { debootstrap, hostRelease } from '../demo/debian.ts'
import { ROOT } from '../demo/places.ts'
import { GUEST_PACKAGES } from '../setup.ts'
import { addKernel } from './kernel.ts'

/** What is made here; git ignores it. */
export const CACHE: string = join(ROOT, '.cache/vm')
/** Change it when the same packages give another disk. */
const RECIPE = 2
const DISK_BYTES = 12 * 2 ** 30

/** Files written into the system before it becomes a disk. */
const FILES: Readonly<Record<string, string>> = {
  'etc/hostname': 'darner-vm\n',
  'etc/hosts': '127.0.0.1 localhost\n127.0.1.1 darner-vm\n::1 localhost\n',
  'etc/fstab': '/dev/nvme0n1 / ext4 noatime 0 0\n',
  'etc/systemd/network/10-user.network': '[Match]\nName=en*\n[Network]\nDHCP=yes\n',
  'etc/modprobe.d/darner.conf': 'blacklist ahci\nblacklist kvm_amd\nblacklist kvm_intel\n', // nothing here has them
  'etc/systemd/system/lxcfs.service.d/cfs.conf':
    '[Service]\nExecStart=\nExecStart=/usr/bin/lxcfs --enable-cfs -l /var/lib/lxcfs\n',
  'etc/systemd/system/serial-getty@ttyS0.service.d/login.conf':
    '[Service]\nExecStart=\nExecStart=-/usr/sbin/agetty --autologin root --noclear --keep-baud 115200 - $TERM\n',
  'etc/systemd/system/darner-project.service': `[Unit]
Description=The project, read from its own disk and writable here
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service
Before=multi-user.target
FailureAction=poweroff-force
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/lib/darner-project
`,
  'etc/systemd/system/darner-guest.service': `[Unit]
Description=What this boot is for
ConditionKernelCommandLine=darner.do
Requires=darner-project.service
After=darner-project.service systemd-udevd.service lxcfs.service basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=simple
Delegate=yes
TasksMax=infinity
StandardOutput=journal+console
ExecStart=/bin/sh /run/project/disk/deploy/vm/guest.sh
[Install]
WantedBy=multi-user.target
`,
  'usr/local/lib/darner-project': `set -e
# where the checkout lies on the host: what Node caches of compiled files follows their paths
root=$(tr ' ' '\\n' </proc/cmdline | sed -n 's/^darner.root=//p' | base64 -d)
mkdir -p /run/project/disk /var/project/upper /var/project/work "$root"
modprobe virtio_blk
mount -t erofs -o ro /dev/vda /run/project/disk
mount -t overlay -o lowerdir=/run/project/disk,upperdir=/var/project/upper,workdir=/var/project/work project "$root"
ln -sfn "$root" /run/project/root
`,
  'root/.bash_profile': 'systemctl start darner-project && . /run/project/disk/deploy/vm/login.sh\n',
}
const ENABLED = ['darner-guest.service']
/** What would take time at each boot, or would wait for what isn't there. */
const MASKED = [
  'apparmor.service', // compiles profiles for minutes; the kernel's part is on
  'systemd-logind.service',
  'systemd-networkd-wait-online.service',
  'ldconfig.service',
  'e2scrub_reap.service',
  'e2scrub_all.timer',
  'fstrim.timer',
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'dpkg-db-backup.timer',
  'xfs_scrub_all.timer',
  'getty@tty1.service',
  'systemd-timesyncd.service',
  'ssh.service',
  'docker-registry.service',
  'containerd.service',
]

export interface VmDisk {
  /** A kernel that QEMU boots directly. */
  readonly kernel: string
  /** A raw ext4 image; a boot leaves it as it is. */
  readonly disk: string
}

export interface DiskOptions {
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

/** The disk of this host's release, from the cache or made now: minutes, as root on Debian, with apt's mirror. Throws COMMAND_FAILED. */
export async function vmDisk({ say, signal }: DiskOptions): Promise<VmDisk> {
  const release = await hostRelease()
  const inputs = JSON.stringify([RECIPE, release.suite, GUEST_PACKAGES, FILES, ENABLED, MASKED])
  const folder = join(CACHE, `disk-${release.suite}-${createHash('sha256').update(inputs).digest('hex').slice(0, 16)}`)
  const found = { kernel: join(folder, 'vmlinux'), disk: join(folder, 'root.ext4') }
  if (await stat(folder).catch(() => undefined)) return found
  const began = performance.now()
  const draft = `${folder}.making-${process.pid}`
  const work = await mkdtemp(join(tmpdir(), 'darner-vm-disk-'))
  try {
    const root = join(work, 'root')
    await mkdir(draft, { recursive: true })
    say(`debootstrap: Debian ${release.suite} with ${GUEST_PACKAGES.length} packages (once; then it is cached)`)
    await debootstrap(root, { release, packages: GUEST_PACKAGES, cwd: work, signal })
    const kernel = await addKernel({ root, elf: join(draft, 'vmlinux'), work }, { signal })
    say(`kernel ${kernel}; writing the disk`)
    for (const [path, text] of Object.entries(FILES)) {
      await mkdir(dirname(join(root, path)), { recursive: true })
      await writeFile(join(root, path), text)
    }
    await run(['chroot', root, 'systemctl', 'enable', ...ENABLED], { signal })
    await run(['chroot', root, 'systemctl', 'mask', ...MASKED], { signal })
    // nothing is newer than what the packages have set up
    await run(['touch', '-r', join(root, 'usr'), join(root, 'etc/.updated'), join(root, 'var/.updated')], { signal })
    await rm(join(root, 'var/cache/apt/archives'), { recursive: true, force: true })
    await rm(join(root, 'var/lib/apt/lists'), { recursive: true, force: true })
    await mkdir(join(root, 'var/cache/apt/archives/partial'), { recursive: true })
    await run(['mkfs.ext4', '-q', '-F', '-m', '0', '-d', root, join(draft, 'root.ext4'), `${DISK_BYTES / 1024}k`], {
      signal,
    })
    await removeOld(folder)
    await rename(draft, folder)
  } finally {
    await rm(work, { recursive: true, force: true })
    await rm(draft, { recursive: true, force: true })
  }
  say(`the disk is made, in ${Math.round((performance.now() - began) / 1000)} s`)
  return found
}

/** Disks of other recipes, and drafts of processes that are no more. */
async function removeOld(folder: string): Promise<void> {
  for (const name of await readdir(CACHE)) {
    const path = join(CACHE, name)
    const maker = /\.making-(\d+)$/.exec(name)?.[1]
    if (name.startsWith('disk-') && path !== folder && (maker === undefined || !existsSync(`/proc/${maker}`)))
      await rm(path, { recursive: true, force: true })
  }
}
