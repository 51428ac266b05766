/**
 * Unix sockets beyond node:net: the types it doesn't know, made by libc, and addresses for paths longer than they hold. The
 * library behind the calls is loaded when they are first needed. (unix(7))
 */
import { closeSync, constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'

const AF_UNIX = 1
const SUN_PATH_BYTES = 108
const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000

/** Types of a socket, and what may be joined to them by `|`. */
export const SOCK = { STREAM: 1, DGRAM: 2, SEQPACKET: 5, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const

/** As in libc: negative is a failure, and {@link SocketCalls.errno} is its number. */
export interface SocketCalls {
  socket(domain: number, type: number, protocol: number): number
  connect(fd: number, address: Uint8Array, bytes: number): number
  bind(fd: number, address: Uint8Array, bytes: number): number
  socketpair(domain: number, type: number, protocol: number, pair: number[]): number
  dup3(from: number, to: number, flags: number): number
  recv(fd: number, into: Uint8Array, bytes: number, flags: number): number | bigint
  errno(): number
}

let loading: Promise<SocketCalls> | undefined

export function socketCalls(): Promise<SocketCalls> {
  loading ??= import('koffi').then(({ default: koffi }) => {
    const lib = koffi.load(null)
    return {
      socket: lib.func('int socket(int, int, int)'),
      connect: lib.func('int connect(int, void *, uint32_t)'),
      bind: lib.func('int bind(int, void *, uint32_t)'),
      socketpair: lib.func('int socketpair(int, int, int, _Out_ int *)'),
      dup3: lib.func('int dup3(int, int, int)'),
      recv: lib.func('int64_t recv(int, void *, uint64_t, int)'),
      errno: () => koffi.errno(),
    }
  })
  return loading
}

/** A new unix socket's descriptor, the caller's to close; negative when there is none. */
export function unixSocket(calls: SocketCalls, type: number): number {
  return calls.socket(AF_UNIX, type, 0)
}

/** Two connected unix sockets; undefined when there are none. */
function unixSocketPair(calls: SocketCalls, type: number): [number, number] | undefined {
  const pair: number[] = [-1, -1]
  if (calls.socketpair(AF_UNIX, type, 0, pair) !== 0) return undefined
  return [pair[0] ?? -1, pair[1] ?? -1]
}

/**
 * A stream of libuv's that reads and writes the socket `fd`, whatever its type is. A copy of `fd` takes the place of one half of a pair;
 * the caller still closes `fd`. `copy` is that place's descriptor, the stream's to close. Throws `failed` of the step.
 */
export function streamOver(
  calls: SocketCalls,
  fd: number,
  { allowHalfOpen = false, failed }: { allowHalfOpen?: boolean; failed: (step: string) => DarnerError },
): { stream: Socket; copy: number } {
  const pair = unixSocketPair(calls, SOCK.STREAM | SOCK.CLOEXEC)
  if (pair === undefined) throw failed('socketpair')
  const [copy, other] = pair
  closeSync(other)
  const stream = new Socket({ fd: copy, allowHalfOpen })
  if (calls.dup3(fd, copy, O_CLOEXEC) >= 0) return { stream, copy }
  const failure = failed('dup3')
  stream.destroy()
  throw failure
}

/**
 * The address of the socket at `path`, which may be longer than an address holds. The folder's descriptor stands for the folder, open until
 * the address is disposed of. Throws BAD_ARGUMENT for a name that is too long by itself, what open(2) throws for a folder that can't be
 * opened.
 */
export function unixAddress(path: string): Disposable & { readonly bytes: Buffer } {
  const folder = openSync(dirname(path), O_PATH | constants.O_DIRECTORY)
  const name = Buffer.from(`/proc/self/fd/${folder}/${basename(path)}\0`)
  if (name.byteLength > SUN_PATH_BYTES) {
    closeSync(folder)
    throw new DarnerError('BAD_ARGUMENT', `socket name ${basename(path)} is too long`)
  }
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  return { bytes: Buffer.concat([family, name]), [Symbol.dispose]: () => closeSync(folder) }
}
