/** A file that takes all of another's blocks and shares them with it: done at once and without room, where the file system can. */
import { constants, copyFileSync, fchmodSync, fstatSync, statfsSync } from 'node:fs'

/** XFS, btrfs and bcachefs, by their f_type in statfs(2). Others aren't asked, since asking cuts a file: see `FileTarget.restart`. */
const SHARING: ReadonlySet<number> = new Set([0x58465342, 0x9123683e, 0xca451a4e])

/** `from` and `to` are open files; true when `to` has the content of `from`, false when nothing was done and it has to be copied. */
export function cloneFile(from: number, to: number): boolean {
  const [source, target] = [`/proc/self/fd/${from}`, `/proc/self/fd/${to}`]
  try {
    if (!SHARING.has(statfsSync(target).type)) return false
    const { mode } = fstatSync(to)
    try {
      copyFileSync(source, target, constants.COPYFILE_FICLONE_FORCE)
    } finally {
      // which Node has made that of the other file
      fchmodSync(to, mode & 0o7777)
    }
    return true
  } catch {
    return false // EXDEV, ENOTSUP: not these two; ENOENT: no /proc here
  }
}
