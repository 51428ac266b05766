/** Debian's kernel for the virtual machine: its package is unpacked, never installed; QEMU boots the ELF inside its bzImage. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { arch } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { DarnerError } from '../../src/core/errors.ts'
import { run } from '../demo/command.ts'

/** Of the real-mode header (Documentation/arch/x86/boot.rst): where the compressed kernel lies behind the setup sectors. */
const SETUP_SECTORS = 0x1f1
const MAGIC = 0x202
const PAYLOAD_OFFSET = 0x248
const PAYLOAD_LENGTH = 0x24c
const SECTOR_BYTES = 512
const ZSTD_MAGIC = 0xfd2fb528
/** More than any kernel that Debian ships. */
const MOST_KERNEL_BYTES = 256 << 20

const META_PACKAGE = 'linux-image-cloud-amd64'

/**
 * Fetches the kernel by apt, unpacks its modules into `root` and writes the bootable ELF to `elf`. `work` is an empty folder
 * for packages. Returns its release, such as `6.12.0-cloud-amd64`. Throws HOST_UNABLE, COMMAND_FAILED, BAD_ARGUMENT.
 */
export async function addKernel(
  to: { readonly root: string; readonly elf: string; readonly work: string },
  { signal }: { signal: AbortSignal },
): Promise<string> {
  if (arch() !== 'x64')
    throw new DarnerError('HOST_UNABLE', `the virtual machine is an amd64, and this host is ${arch()}`)
  const download = (name: string) => run(['apt-get', '-q', 'download', name], { cwd: to.work, signal })
  await download(META_PACKAGE).catch(async () => {
    signal.throwIfAborted()
    await run(['apt-get', '-q', 'update'], { signal }) // a new machine has no package lists, an old one stale ones
    await download(META_PACKAGE)
  })
  const meta = await packageIn(to.work, META_PACKAGE)
  const depends = await run(['dpkg-deb', '-f', meta, 'Depends'], { signal })
  const name = /linux-image-[0-9][^\s,]*/.exec(depends)?.[0]
  if (name === undefined)
    throw new DarnerError('HOST_UNABLE', `${META_PACKAGE} depends on no kernel: ${depends.trim()}`)
  await download(name)
  const unpacked = join(to.work, 'kernel')
  await run(['dpkg-deb', '-x', await packageIn(to.work, name), unpacked], { signal })
  const release = name.slice('linux-image-'.length)
  const elf = await elfOf(await readFile(join(unpacked, 'boot', `vmlinuz-${release}`)))
  await writeFile(to.elf, elf)
  await mkdir(join(to.root, 'usr/lib/modules'), { recursive: true })
  await run(['cp', '-a', join(unpacked, 'usr/lib/modules', release), join(to.root, 'usr/lib/modules/')], { signal })
  await run(['chroot', to.root, 'depmod', release], { signal })
  await rm(unpacked, { recursive: true, force: true })
  return release
}

async function packageIn(folder: string, name: string): Promise<string> {
  const found = (await readdir(folder)).find((file) => file.startsWith(`${name}_`) && file.endsWith('.deb'))
  if (found === undefined) throw new DarnerError('NOT_FOUND', `apt-get download ${name}: it left no package`)
  return join(folder, found)
}

/** The ELF out of a bzImage whose payload is zstd. Throws BAD_ARGUMENT for anything else. */
export async function elfOf(bzImage: Buffer): Promise<Buffer> {
  const refuse = (why: string) => new DarnerError('BAD_ARGUMENT', `kernel image of ${bzImage.length} bytes: ${why}`)
  if (bzImage.length < SECTOR_BYTES * 2 || bzImage.toString('latin1', MAGIC, MAGIC + 4) !== 'HdrS')
    throw refuse('no bzImage')
  const start = (bzImage.readUInt8(SETUP_SECTORS) + 1) * SECTOR_BYTES + bzImage.readUInt32LE(PAYLOAD_OFFSET)
  const end = start + bzImage.readUInt32LE(PAYLOAD_LENGTH) - 4 // the last four bytes are the length of what is inside
  if (end > bzImage.length || end - start < 4) throw refuse('its payload lies outside')
  if (bzImage.readUInt32LE(start) !== ZSTD_MAGIC) throw refuse('its payload is not zstd')
  const elf = await promisify(zstdDecompress)(bzImage.subarray(start, end), { maxOutputLength: MOST_KERNEL_BYTES })
  if (elf.toString('latin1', 0, 4) !== '\x7fELF') throw refuse('its payload is no ELF')
  return elf
}
