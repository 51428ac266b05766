/**
 * Loop devices that bypass the page cache of the file system below. Written bytes lie in memory once, not twice, and the kernel doesn't
 * copy them a second time (loop(4); include/uapi/linux/loop.h).
 */
import { closeSync, constants, openSync, statSync, writeFileSync } from 'node:fs'
import { systemCode } from '../../src/core/errors.ts'
import { ioctl, systemErrorIs } from '../linux/syscalls.ts'
import { isMountPoint } from '../snapshots/mounts.ts'

const CONFIGURE = 0x4c0a
const GET_FREE = 0x4c82
/** `struct loop_config`: file, block size, `struct loop_info64` of 232 bytes, 64 reserved. */
const CONFIG_BYTES = 304
const FLAGS_AT = 60
const NAME_AT = 64
const NAME_BYTES = 63
const FLAGS = { AUTOCLEAR: 4, DIRECT_IO: 16 } as const
/** Somebody else may take the device that was free a moment ago. */
const MOST_TRIES = 20
const LOOP_MAJOR = 7
/** `queue/wbt_lat_usec` in sysfs: how slow reads may become before the kernel holds writes back; 0 is never, -1 its own choice. */
const UNHELD = '0'
const BY_DEFAULT = '-1'
const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1

export interface LoopDevice extends Disposable {
  /** `/dev/loop7`. */
  readonly path: string
}

/**
 * A device for the file. It frees itself when its last user is gone: mount it, then dispose; an agent that is killed between leaves
 * nothing. Where the file system below knows no direct I/O the kernel falls back to its cache. Undefined before Linux 5.8, which can't
 * do it in one step. Throws what opening and the kernel throw.
 */
export function attachLoop(file: string): LoopDevice | undefined {
  const backing = openDirect(file)
  try {
    for (let tries = 1; ; tries++) {
      const path = `/dev/loop${freeDevice()}`
      const device = openSync(path, constants.O_RDWR)
      try {
        ioctl(device, CONFIGURE, configOf(backing, file), 'LOOP_CONFIGURE')
        holdWrites(`/sys${path.replace('dev', 'block')}`, UNHELD)
        return { path, [Symbol.dispose]: () => closeSync(device) }
      } catch (error) {
        closeSync(device)
        if (systemErrorIs(error, 'EINVAL', 'ENOTTY')) return undefined
        if (!systemErrorIs(error, 'EBUSY') || tries >= MOST_TRIES) throw error
      }
    }
  } finally {
    closeSync(backing)
  }
}

/** Before the file system at `target` is unmounted: its device, if it is a loop, is left as another user would have found it. */
export function restoreLoop(target: string): void {
  if (!isMountPoint(target)) return
  const device = statSync(target).dev
  if (((device >> 8) & 0xfff) !== LOOP_MAJOR) return
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00) // makedev(3)
  holdWrites(`/sys/dev/block/${LOOP_MAJOR}:${minor}`, BY_DEFAULT)
}

/**
 * The kernel holds writes of a loop back by 2 ms of latency, also where the disk below is allowed 75. It lets as many of its requests go at
 * once as of the disk, which are three times as long. Writers lose 4 to 15 % by that. Unheld they are to others on the disk what writers
 * without a loop are.
 */
function holdWrites(device: string, latency: string): void {
  try {
    writeFileSync(`${device}/queue/wbt_lat_usec`, latency)
  } catch (error) {
    // a kernel without it, or /sys is not ours to write: slower, and no less right
    if (!['ENOENT', 'EINVAL', 'EACCES', 'EPERM', 'EROFS'].includes(systemCode(error) ?? '')) throw error
  }
}

/** Opened so, older kernels too give the device the block size that direct I/O needs. */
function openDirect(file: string): number {
  try {
    return openSync(file, constants.O_RDWR | constants.O_DIRECT)
  } catch (error) {
    if (!systemErrorIs(error, 'EINVAL')) throw error
    return openSync(file, constants.O_RDWR) // no direct I/O there
  }
}

function freeDevice(): number {
  const control = openSync('/dev/loop-control', constants.O_RDWR)
  try {
    return ioctl(control, GET_FREE, new Uint8Array(1), 'LOOP_CTL_GET_FREE')
  } finally {
    closeSync(control)
  }
}

function configOf(backing: number, file: string): Uint8Array {
  const config = new DataView(new ArrayBuffer(CONFIG_BYTES))
  config.setUint32(0, backing, LITTLE)
  config.setUint32(FLAGS_AT, FLAGS.AUTOCLEAR | FLAGS.DIRECT_IO, LITTLE)
  const bytes = new Uint8Array(config.buffer)
  bytes.set(Buffer.from(file).subarray(0, NAME_BYTES), NAME_AT)
  return bytes
}
