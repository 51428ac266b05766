/**
 * Starts host programs by posix_spawn(3). Node's own way copies the page tables of this process first, which holds the event loop for 6 ms
 * in an agent of 200 MiB. This way shares them until the program begins, and takes half a millisecond. The thread that asks stands still
 * meanwhile, longer where the program waits for a processor: it is one of libuv's, not the event loop's. Linux only.
 */
import { closeSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { promisify } from 'node:util'
import koffi from 'koffi'
import { SystemCallError } from '../linux/syscalls.ts'

const libc = koffi.load(null)
/** Undefined where the C library lacks it. */
function maybe(signature: string): ReturnType<typeof libc.func> | undefined {
  try {
    return libc.func(signature)
  } catch {
    return undefined // koffi says so by an Error without a code
  }
}

const native = {
  spawn: libc.func(
    'int posix_spawn(_Out_ int *pid, const char *path, void *actions, void *attributes, const char **argv, const char **envp)',
  ),
  actionsInit: libc.func('int posix_spawn_file_actions_init(void *actions)'),
  actionsDestroy: libc.func('int posix_spawn_file_actions_destroy(void *actions)'),
  addDup2: libc.func('int posix_spawn_file_actions_adddup2(void *actions, int fd, int target)'),
  addClose: libc.func('int posix_spawn_file_actions_addclose(void *actions, int fd)'),
  addChdir: maybe('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)'),
  attributesInit: libc.func('int posix_spawnattr_init(void *attributes)'),
  attributesDestroy: libc.func('int posix_spawnattr_destroy(void *attributes)'),
  setFlags: libc.func('int posix_spawnattr_setflags(void *attributes, short flags)'),
  setSigDefault: libc.func('int posix_spawnattr_setsigdefault(void *attributes, const void *signals)'),
  setSigMask: libc.func('int posix_spawnattr_setsigmask(void *attributes, const void *signals)'),
  fillSignals: libc.func('int sigfillset(void *signals)'),
  pipe2: libc.func('int pipe2(_Out_ int *fds, int flags)'),
  waitpid: libc.func('int waitpid(int pid, _Out_ int *status, int options)'),
}
/** Room for the C library's own structures: 80, 336 and 128 bytes in glibc, less in musl. */
const [ACTIONS_BYTES, ATTRIBUTES_BYTES, SIGNALS_BYTES] = [512, 1024, 256]
const [SETSIGDEF, SETSIGMASK, SETSID] = [0x04, 0x08, 0x80]
const O_CLOEXEC = 0o2000000
const WNOHANG = 1
/** Signals alone don't keep a process going: this does while programs run, and a signal that was lost is made up for. */
const REAP_EVERY_MS = 1000
const EINTR = 4

export interface SpawnOptions {
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  /** A session of its own. */
  readonly detached?: boolean
  /** The program's descriptors 0, 1, 2 and so on: nothing, a pipe that it reads or writes, or an open descriptor of this process. */
  readonly stdio: readonly ('ignore' | 'reads' | 'writes' | number)[]
}

export interface Spawned {
  readonly pid: number
  /** The exit code; a signal's number plus 128 for one that a signal ended. */
  readonly exited: Promise<number>
  /** By the program's descriptor; a caller that asks for pipes ends or destroys them. */
  readonly readers: ReadonlyMap<number, Readable>
  readonly writers: ReadonlyMap<number, Writable>
  /** Sends a signal by number. Nothing happens when it has ended. */
  kill(signal: number): void
}

/** `path` is absolute. Throws a SystemCallError: ENOENT, EACCES. */
export async function spawnProgram(path: string, args: readonly string[], options: SpawnOptions): Promise<Spawned> {
  const mine: { fd: number; at: number; reads: boolean }[] = []
  const theirs: number[] = []
  const opened: number[] = []
  try {
    for (const [at, one] of options.stdio.entries()) {
      if (typeof one === 'number') theirs.push(one)
      else if (one === 'ignore') {
        const fd = openSync('/dev/null', 'r+')
        opened.push(fd)
        theirs.push(fd)
      } else {
        const ends = [0, 0]
        if (native.pipe2(ends, O_CLOEXEC) < 0) throw new SystemCallError('pipe2', koffi.errno(), path)
        const [out = 0, into = 0] = ends
        opened.push(one === 'reads' ? out : into)
        theirs.push(one === 'reads' ? out : into)
        mine.push({ fd: one === 'reads' ? into : out, at, reads: one === 'writes' })
      }
    }
    const pid = await start(path, args, theirs, options)
    const exited = endOf(pid)
    const readers = new Map<number, Readable>()
    const writers = new Map<number, Writable>()
    for (const { fd, at, reads } of mine) {
      const socket = new Socket({ fd, readable: reads, writable: !reads })
      if (reads) readers.set(at, socket)
      else writers.set(at, socket)
    }
    return { pid, exited, readers, writers, kill: (signal) => void (running.has(pid) && process.kill(pid, signal)) }
  } catch (error) {
    for (const { fd } of mine) closeSync(fd)
    throw error
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}

/**
 * How a program with pipes at 1 and 2 ended, and what it wrote, at most about `mostBytes` of each. Resolves once all holders of the pipes
 * are gone.
 */
export async function outcome(
  { exited, readers }: Spawned,
  mostBytes: number,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const texts = ['', '', '']
  const closed = [...readers].map(([at, stream]) => {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      if ((texts[at]?.length ?? 0) < mostBytes) texts[at] += chunk
    })
    return new Promise<void>((over) => stream.once('close', over).once('error', () => over()))
  })
  const [code] = await Promise.all([exited, ...closed])
  return { code, stdout: texts[1] ?? '', stderr: texts[2] ?? '' }
}

async function start(
  path: string,
  args: readonly string[],
  fds: readonly number[],
  options: SpawnOptions,
): Promise<number> {
  const actions = new Uint8Array(ACTIONS_BYTES)
  const attributes = new Uint8Array(ATTRIBUTES_BYTES)
  const signals = new Uint8Array(SIGNALS_BYTES)
  native.actionsInit(actions)
  native.attributesInit(attributes)
  try {
    // first beyond all of them, so that none is overwritten before it was taken
    const far = Math.max(fds.length, ...fds) + 1
    for (const [at, fd] of fds.entries()) native.addDup2(actions, fd, far + at)
    for (const at of fds.keys()) {
      native.addDup2(actions, far + at, at)
      native.addClose(actions, far + at)
    }
    let argv = [path, ...args]
    if (options.cwd !== undefined) {
      if (native.addChdir) native.addChdir(actions, options.cwd)
      else argv = ['/bin/sh', '-c', 'cd "$0" && exec "$@"', options.cwd, ...argv] // glibc before 2.29
    }
    native.setFlags(attributes, SETSIGDEF | SETSIGMASK | (options.detached === true ? SETSID : 0))
    native.setSigMask(attributes, signals)
    native.fillSignals(signals)
    native.setSigDefault(attributes, signals)
    const env = Object.entries(options.env).map(([name, value]) => `${name}=${value}`)
    const pid = [0]
    const errno = await spawnSoon(pid, argv[0], actions, attributes, [...argv, null], [...env, null])
    if (errno !== 0) throw new SystemCallError('posix_spawn', errno, path)
    return pid[0] ?? 0
  } finally {
    native.actionsDestroy(actions)
    native.attributesDestroy(attributes)
  }
}

/** Calls on other threads at a time: libuv has four, and koffi refuses more than some hundreds of calls that wait. */
const MOST_ASIDE = 16
const spawnAside = promisify(native.spawn.async) as (...args: unknown[]) => Promise<number>
let aside = 0

/** posix_spawn(3) on a thread of libuv's or, when many wait for those, on this one. */
async function spawnSoon(...args: unknown[]): Promise<number> {
  if (aside >= MOST_ASIDE) return native.spawn(...args)
  aside++
  try {
    return await spawnAside(...args)
  } finally {
    aside--
  }
}

/** Programs that run, with the callbacks for their end. Of the process, as its children are: each signal is for all of them. */
const running = new Map<number, (code: number) => void>()
let looking: NodeJS.Timeout | undefined

function endOf(pid: number): Promise<number> {
  const ended = Promise.withResolvers<number>()
  if (running.size === 0) {
    process.on('SIGCHLD', reap)
    looking = setInterval(reap, REAP_EVERY_MS)
  }
  running.set(pid, ended.resolve)
  reap() // it may have ended before the signal was listened to
  return ended.promise
}

function reap(): void {
  for (const [pid, resolve] of running) {
    const status = [0]
    const found = native.waitpid(pid, status, WNOHANG)
    if (found === 0 || (found < 0 && koffi.errno() === EINTR)) continue
    running.delete(pid)
    const [word = 0] = status
    const signal = word & 0x7f
    resolve(found < 0 ? 255 : signal === 0 ? (word >> 8) & 0xff : 128 + signal)
  }
  if (running.size > 0) return
  process.off('SIGCHLD', reap)
  clearInterval(looking)
}
