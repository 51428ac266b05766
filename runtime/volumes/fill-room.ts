/** How much of a disk an image may take by the volumes that it declares: all but what the host goes on with. */
import { statfsSync } from 'node:fs'
import { DarnerError } from '../../src/core/errors.ts'

const LOOK_EVERY_BYTES = 16 << 20
const MOST_KEPT_BYTES = 1 << 30
const KEPT_SHARE = 0.05

/** The reserve of a file system of `bytes`. */
export const reserveOf = (bytes: number): number => Math.min(MOST_KEPT_BYTES, Math.floor(bytes * KEPT_SHARE))

/** Counts what is written to the file system of `folder`; throws DISK_FULL once its reserve is touched. */
export function roomOn(
  folder: string,
  facts: () => { readonly bytes: number; readonly freeBytes: number } = () => {
    const { bsize, blocks, bavail } = statfsSync(folder)
    return { bytes: bsize * blocks, freeBytes: bsize * bavail }
  },
): (bytes: number) => void {
  let unseen = 0
  return (bytes) => {
    unseen += bytes
    if (unseen < LOOK_EVERY_BYTES) return
    unseen = 0
    const { bytes: size, freeBytes } = facts()
    if (freeBytes >= reserveOf(size)) return
    throw new DarnerError(
      'DISK_FULL',
      `the file system of ${folder} has ${freeBytes} bytes left, of which ${reserveOf(size)} are kept`,
      { way: 'give the volume a size with --disk-quota PATH=SIZE, or make room' },
    )
  }
}
