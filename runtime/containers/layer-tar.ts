/** The files of a container as tars: of a folder as it is, and of a writable layer as images have it (image-spec, layer.md). */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { DarnerError } from '../../src/base/errors.ts'
import { AT_FDCWD, getXattr, O, openAt } from '../../src/base/syscalls.ts'
import { tarHeader } from '../images/tar-writer.ts'
import { PROGRAM_ENV } from '../shim/program.ts'
import type { Change } from './files.ts'

const OPAQUE = 'trusted.overlay.opaque'
const REDIRECT = 'trusted.overlay.redirect'

/**
 * The layer that `changes` of an overlay's `upper` directory make: what went is a `.wh.` entry, a folder made anew over another
 * one hides it by `.wh..wh..opq`. `more` goes to tar. Throws HOST_UNABLE for folders that overlayfs only redirected.
 */
export async function* layerTar(
  upper: string,
  changes: readonly Change[],
  signal: AbortSignal,
  more: readonly string[] = [],
): AsyncGenerator<Uint8Array> {
  const kept: string[] = []
  for (const { path, kind } of changes) {
    if (kind === 'deleted') {
      yield tarHeader({ name: join(dirname(path), `.wh.${basename(path)}`).slice(1), bytes: 0, mode: 0 })
      continue
    }
    kept.push(`.${path}`)
    if (getXattr(join(upper, path), REDIRECT) !== undefined)
      throw new DarnerError('HOST_UNABLE', `${path}: it was renamed, and this host's overlayfs keeps only where from`, {
        way: 'mount overlayfs with redirect_dir=off, or copy the folder instead of renaming it',
      })
    if (getXattr(join(upper, path), OPAQUE)?.[0] === 'y'.charCodeAt(0))
      yield tarHeader({ name: join(path, '.wh..wh..opq').slice(1), bytes: 0, mode: 0 })
  }
  const folder = openAt(AT_FDCWD, upper, O.RDONLY | O.DIRECTORY)
  try {
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
    const done = streamTar(args, folder, signal, opened.resolve, `${kept.join('\0')}\0`)
    done.catch(opened.reject)
    for await (const chunk of await opened.promise) yield chunk as Uint8Array
    await done
  } finally {
    closeSync(folder)
  }
}

/** Runs tar on an open folder and hands its output out; resolves when it ended. `names` goes to its stdin. Rejects with its complaint. */
export async function streamTar(
  args: readonly string[],
  folder: number,
  signal: AbortSignal,
  out: (tar: Readable) => void,
  names?: string,
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
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000)
  })
  const ended = Promise.withResolvers<number | null>()
  child.once('error', ended.reject).once('close', ended.resolve)
  child.stdin?.on('error', () => {}) // it ended, and says why by its exit code
  child.stdin?.end(names ?? '')
  if (child.stdout) {
    child.stdout.once('close', () => child.kill())
    out(child.stdout)
  }
  const code = await ended.promise
  // 1: a file changed while it was read, as files of running containers do
  if (code !== 0 && code !== 1 && code !== null)
    throw new DarnerError('INTERNAL', `tar ended with ${code}: ${said.trim()}`)
}
