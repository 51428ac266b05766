/** The project as a disk: the working tree with its libraries, read-only, as it is now. */
import { spawn } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'
import { endOf } from '../demo/command.ts'
import { ROOT } from '../demo/places.ts'

/** What the machine has no use for, below the checkout. */
const LEFT_OUT = ['./.git', './dist', './coverage']
/** What it has a use for, in the cache. */
const CACHED = /^(compiled|systemd-image-[a-z]+)$/

/** Writes an EROFS image of the checkout to `path`. What vanishes meanwhile is left out. Throws COMMAND_FAILED. */
export async function projectDisk(path: string, { signal }: { signal: AbortSignal }): Promise<void> {
  const killed = { signal, killSignal: 'SIGKILL' } as const
  const cached = await readdir(join(ROOT, '.cache'))
  const unused = cached.filter((name) => !CACHED.test(name)).map((name) => `./.cache/${name}`)
  const without = [...LEFT_OUT, ...unused].map((name) => `--exclude=${name}`)
  // from a tar: given a folder, mkfs.erofs waits forever for a file that somebody removes
  const pack = ['-c', '--anchored', ...without, '--xattrs', '-C', ROOT, '.']
  const tar = spawn('tar', pack, { stdio: ['ignore', 'pipe', 'ignore'], ...killed })
  const make = ['--quiet', '--tar=f', '--sort=none', path]
  const mkfs = spawn('mkfs.erofs', make, { stdio: [tar.stdout, 'ignore', 'ignore'], ...killed })
  tar.stdout.destroy() // mkfs.erofs has it
  const [packed, made] = await Promise.all([endOf(tar), endOf(mkfs)])
  signal.throwIfAborted()
  // tar's 1: a file changed or vanished while it was read
  if ((packed !== 0 && packed !== 1) || made !== 0)
    throw new DarnerError('COMMAND_FAILED', `the project's disk: tar ended with ${packed}, mkfs.erofs with ${made}`)
}
