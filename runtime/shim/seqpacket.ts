/**
 * Connects to a unix socket of type SOCK_SEQPACKET, which node:net can't open: libc makes and connects it, and its descriptor
 * then takes the place of one half of an ordinary stream pair that a net.Socket already holds. From there on libuv reads and
 * writes it, one packet per call, so packets keep their borders and a slow reader holds the sender up.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { DarnerError } from '../../src/base/errors.ts'

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_SEQPACKET = 5
const SOCK_CLOEXEC = 0o2000000
/** libuv sets it on the pair's half, whose place the socket takes: it must come with it by itself, or writes block all. */
const SOCK_NONBLOCK = 0o4000
const EAGAIN = 11
/** A listener's queue that is full empties as soon as it accepts. */
const CONNECT_TRIES = 200
const CONNECT_PAUSE_MS = 5
const O_CLOEXEC = 0o2000000
const O_PATH = 0o10000000
const MSG_DONTWAIT = 0x40
const SUN_PATH_BYTES = 108
/** conmon's packets have at most 8 KiB and one. */
const MOST_PACKET_BYTES = 65_536

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  connect(fd: number, address: Uint8Array, bytes: number): number
  socketpair(domain: number, type: number, protocol: number, pair: number[]): number
  dup3(from: number, to: number, flags: number): number
  recv(fd: number, into: Uint8Array, bytes: number, flags: number): number | bigint
  errno(): number
}

let loading: Promise<Libc> | undefined

function libc(): Promise<Libc> {
  loading ??= import('koffi').then(({ default: koffi }) => {
    const lib = koffi.load(null)
    return {
      socket: lib.func('int socket(int, int, int)'),
      connect: lib.func('int connect(int, void *, uint32_t)'),
      socketpair: lib.func('int socketpair(int, int, int, _Out_ int *)'),
      dup3: lib.func('int dup3(int, int, int)'),
      recv: lib.func('int64_t recv(int, void *, uint64_t, int)'),
      errno: () => koffi.errno(),
    }
  })
  return loading
}

export interface SeqpacketHandlers {
  /** One packet; the view is the callee's to keep. */
  readonly packet: (bytes: Buffer) => void
  /** No more packets will come; called once. */
  readonly end: (error: Error | undefined) => void
}

export interface SeqpacketSocket {
  /** Sends one packet; resolves when the kernel has it. Call it again only then. */
  send(packet: Uint8Array): Promise<void>
  /** No more packets from here; the other side may still send. */
  endWriting(): void
  pause(): void
  resume(): void
  close(): void
}

/** Connects to the socket at `path`, of any length. Throws CLOSED when nobody listens there. */
export async function connectSeqpacket(path: string, handlers: SeqpacketHandlers): Promise<SeqpacketSocket> {
  const c = await libc()
  const failed = (step: string): DarnerError =>
    new DarnerError('CLOSED', `connecting to ${path}: ${step} failed with errno ${c.errno()}`)
  const fd = c.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
  if (fd < 0) throw failed('socket')
  const folder = openFolder(path, fd)
  let half = -1
  try {
    // sun_path is short and bundle paths aren't: name the socket through its folder's descriptor
    const near = Buffer.from(`/proc/self/fd/${folder}/${basename(path)}\0`)
    if (near.byteLength > SUN_PATH_BYTES)
      throw new DarnerError('BAD_ARGUMENT', `socket name ${basename(path)} is too long`)
    const family = Buffer.alloc(2)
    family.writeUInt16LE(AF_UNIX)
    const address = Buffer.concat([family, near])
    for (let tries = 0; c.connect(fd, address, address.byteLength) !== 0; tries++) {
      if (c.errno() !== EAGAIN || tries === CONNECT_TRIES) throw failed('connect')
      await new Promise((resolve) => setTimeout(resolve, CONNECT_PAUSE_MS))
    }
    const pair: number[] = [-1, -1]
    if (c.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) throw failed('socketpair')
    half = pair[0] ?? -1
    closeSync(pair[1] ?? -1)
  } catch (error) {
    closeSync(fd)
    throw error
  } finally {
    closeSync(folder)
  }
  const socket = new Socket({ fd: half, allowHalfOpen: true })
  if (c.dup3(fd, half, O_CLOEXEC) < 0) {
    socket.destroy()
    closeSync(fd)
    throw failed('dup3')
  }
  return drive(c, fd, socket, handlers)
}

function openFolder(path: string, socketFd: number): number {
  try {
    return openSync(dirname(path), O_PATH | constants.O_DIRECTORY)
  } catch (error) {
    closeSync(socketFd)
    throw new DarnerError('CLOSED', `connecting to ${path}: its folder can't be opened`, { cause: error })
  }
}

function drive(c: Libc, fd: number, socket: Socket, handlers: SeqpacketHandlers): SeqpacketSocket {
  let open = true
  const finish = (error: Error | undefined): void => {
    if (!open) return
    open = false
    // libuv reports the end at hang-up even when packets wait behind the last one it read: take those here
    const buffer = Buffer.alloc(MOST_PACKET_BYTES)
    for (;;) {
      const got = Number(c.recv(fd, buffer, buffer.byteLength, MSG_DONTWAIT))
      if (got <= 0) break
      handlers.packet(Buffer.from(buffer.subarray(0, got))) // a copy: the buffer is used again
    }
    closeSync(fd)
    socket.destroy()
    handlers.end(error)
  }
  socket.on('data', handlers.packet)
  socket.once('end', () => finish(undefined))
  socket.once('error', (error) => finish(error))
  socket.once('close', () => finish(undefined))
  return {
    send: (packet) =>
      new Promise((resolve, reject) => {
        if (!open) return reject(new DarnerError('CLOSED', 'the attached process has ended'))
        socket.write(packet, (error) => (error ? reject(error) : resolve()))
      }),
    endWriting: () => {
      if (open) socket.end()
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => finish(undefined),
  }
}
