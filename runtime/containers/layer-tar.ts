/** The files of a container as tars: of a folder as it is, and of a writable layer as images have it (image-spec, layer.md). */
import { type ChildProcess, spawn } from 'node:child_process'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { DarnerError } from '../../src/core/errors.ts'
import { tarHeader } from '../images/tar-writer.ts'
import { isGone, type StillTree } from '../linux/foreign-tree.ts'
import { getXattr } from '../linux/syscalls.ts'
import { PROGRAM_ENV } from '../shim/program.ts'
import { OPAQUE_XATTR } from '../snapshots/overlay.ts'
import type { FoundChange } from './overlay-changes.ts'

const REDIRECT = 'trusted.overlay.redirect'

/**
 * The layer that `changes` of an overlay's `upper` directory make. A removed path is a `.wh.` entry; a folder made anew over another one
 * hides it by `.wh..wh..opq`. `more` goes to tar. Throws HOST_UNABLE for folders that overlayfs only redirected.
 */
export async function* layerTar(
  upper: StillTree,
  changes: readonly FoundChange[],
  signal: AbortSignal,
  more: readonly string[] = [],
): AsyncGenerator<Uint8Array> {
  const kept: Buffer[] = []
  for (const { path, bytes, kind } of changes) {
    if (kind === 'deleted') {
      yield tarHeader({ name: join(dirname(path), `.wh.${basename(path)}`).slice(1), bytes: 0, mode: 0 })
      continue
    }
    kept.push(Buffer.from('./'), bytes, Buffer.from('\0'))
    if (markOf(upper, bytes, REDIRECT) !== undefined)
      throw new DarnerError('HOST_UNABLE', `${path}: it was renamed, and this host's overlayfs keeps only where from`, {
        way: 'mount overlayfs with redirect_dir=off, or copy the folder instead of renaming it',
      })
    if (markOf(upper, bytes, OPAQUE_XATTR)?.[0] === 'y'.charCodeAt(0))
      yield tarHeader({ name: join(path, '.wh..wh..opq').slice(1), bytes: 0, mode: 0 })
  }
  const opened = Promise.withResolvers<Readable>()
  const args = [
    ...more,
    '--xattrs-exclude=trusted.overlay.*',
    '--no-recursion',
    '--transform',
    's,^\\./,,S',
    '--null',
    '-T',
    '-',
  ]
  const done = streamTar(args, upper.fd, signal, opened.resolve, Buffer.concat(kept))
  done.catch(opened.reject)
  for await (const chunk of await opened.promise) yield chunk as Uint8Array
  await done
}

function markOf(upper: StillTree, path: Buffer, name: string): Uint8Array | undefined {
  try {
    return getXattr(Buffer.concat([Buffer.from(`${upper.path}/`), path]), name)
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

/**
 * What tar prints about names that were removed or replaced since they were given to it, about what it leaves out, and about itself.
 */
const MEANWHILE =
  /: (Cannot (stat|open|readlink): (No such file or directory|Not a directory|Too many levels of symbolic links)|File removed before we read it|file changed as we read it|File shrank by \d+ bytes?; padding with zeros|socket ignored|Exiting with failure status due to previous errors|)$/

/** Runs tar on an open folder and hands its output out; resolves when it ended. `names` goes to its stdin: those that went meanwhile are left out. Rejects with its complaint. */
export async function streamTar(
  args: readonly string[],
  folder: number,
  signal: AbortSignal,
  out: (tar: Readable) => void,
  names?: Buffer,
): Promise<void> {
  const all = [
    '-C',
    '/proc/self/fd/3',
    '--numeric-owner',
    '--xattrs',
    '--xattrs-include=*',
    '--format=pax',
    '--pax-option=delete=atime,delete=ctime',
    '-cf',
    '-',
    ...args,
  ]
  const child: ChildProcess = spawn('tar', all, { stdio: ['pipe', 'pipe', 'pipe', folder], env: PROGRAM_ENV, signal })
  let said = ''
  if (child.stderr) {
    createInterface(child.stderr).on('line', (line) => {
      if (names === undefined || !MEANWHILE.test(line)) said = `${said}${line}\n`.slice(-2000)
    })
  }
  const ended = Promise.withResolvers<number | null>()
  child.once('error', ended.reject).once('close', ended.resolve)
  child.stdin?.on('error', () => {}) // it ended, and says why by its exit code
  child.stdin?.end(names ?? '')
  let left = false
  child.stdout?.once('close', () => {
    left = child.stdout?.readableEnded !== true
    if (left) child.kill() // by itself it may have more to say
  })
  if (child.stdout) out(child.stdout)
  const code = await ended.promise
  // 1: a file changed while it was read, as files of running containers do; 2: not all that was named could be read
  const fine = code === 0 || code === 1 || (code === 2 && names !== undefined && said === '')
  if (!fine && !left) throw new DarnerError('INTERNAL', `tar ended with ${code ?? 'a signal'}: ${said.trim()}`)
}
