/**
 * The kernel's own report of processes that dump core or die by a signal: the process connector, a netlink multicast of every fork, exec
 * and exit of the host. A filter in the socket lets through only the former (Linux, linux/cn_proc.h, linux/connector.h; netlink(7),
 * socket(7) SO_ATTACH_FILTER). Nothing on the host is changed by it. It speaks only to root in the first pid, user and network namespace.
 */
import { closeSync, readlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import { DarnerError } from '../../src/core/errors.ts'
import { SOCK, type SocketCalls, socketCalls, streamOver } from '../linux/unix-sockets.ts'

const [AF_NETLINK, NETLINK_CONNECTOR, SOL_NETLINK, NETLINK_NO_ENOBUFS] = [16, 11, 270, 5]
const [SOL_SOCKET, SO_ATTACH_FILTER] = [1, 26]
const [CN_IDX_PROC, CN_VAL_PROC, PROC_CN_MCAST_LISTEN, NLMSG_DONE] = [1, 1, 1, 3]
const EVENT = { NONE: 0, COREDUMP: 0x40000000, EXIT: 0x80000000 } as const
/** nlmsghdr, then cn_msg, then proc_event, whose own data begins at {@link AT}.data. */
const AT = { group: 16, ack: 28, what: 36, data: 52 } as const
const SHORTEST = AT.data + 8
const LISTEN_BYTES = 40
/** The first ones have these numbers on every kernel (linux/proc_ns.h); to others it gives no answer at all. */
const FIRST_NAMESPACES = { pid: 'pid:[4026531836]', user: 'user:[4026531837]' } as const
const ECONNREFUSED = 111
/** How long the kernel may take to say that it speaks; it does so within the call. */
const ACK_MS = 2000

export type ProcessEvent =
  /** A signal that dumps core came, and the process is still there; also when its limits let it write none. */
  | { readonly kind: 'core'; readonly pid: number; readonly tgid: number; readonly parent: number | undefined }
  /** A thread ended by `signal`. `written`: a core was. */
  | { readonly kind: 'killed'; readonly pid: number; readonly signal: number; readonly written: boolean }

/** One datagram; undefined for what is none of the two, and for what is too short. */
export function parseProcessEvent(message: Buffer): ProcessEvent | undefined {
  if (message.byteLength < SHORTEST || message.readUInt32LE(AT.group) !== CN_IDX_PROC) return undefined
  const word = (index: number) => message.readUInt32LE(AT.data + 4 * index)
  const what = message.readUInt32LE(AT.what)
  if (what === EVENT.COREDUMP) {
    const parent = message.byteLength >= AT.data + 16 ? word(3) : 0 // Linux 5.1
    return { kind: 'core', pid: word(0), tgid: word(1), parent: parent === 0 ? undefined : parent }
  }
  if (what !== EVENT.EXIT || message.byteLength < AT.data + 12 || (word(2) & 0x7f) === 0) return undefined
  return { kind: 'killed', pid: word(0), signal: word(2) & 0x7f, written: (word(2) & 0x80) !== 0 }
}

/** The kernel's answer to our request, which every listener receives. Undefined when it is none, or somebody else's. */
function parseAck(message: Buffer, ours: number): { readonly errno: number } | undefined {
  if (message.byteLength < SHORTEST || message.readUInt32LE(AT.what) !== EVENT.NONE) return undefined
  return message.readUInt32LE(AT.ack) === ours + 1 ? { errno: message.readUInt32LE(AT.data) } : undefined
}

/**
 * Listens; `handle` gets each event as it comes. Closed by its opener; it keeps no process alive. Throws HOST_UNABLE, with the reason,
 * where the kernel doesn't speak to this process.
 */
export async function openProcessEvents(handle: (event: ProcessEvent) => void): Promise<Disposable> {
  for (const [name, first] of Object.entries(FIRST_NAMESPACES)) {
    if (readlinkSync(`/proc/self/ns/${name}`) !== first) throw unable(`the agent is not in the first ${name} namespace`)
  }
  const calls = await netlinkCalls()
  const socket = listeningSocket(calls)
  const ours = Math.floor(Math.random() * 0x7fffffff)
  const answered = Promise.withResolvers<number>()
  const timer = setTimeout(() => answered.resolve(-1), ACK_MS)
  socket.stream.on('data', (message: Buffer) => {
    const ack = parseAck(message, ours)
    if (ack) answered.resolve(ack.errno)
    const event = parseProcessEvent(message)
    if (event) handle(event)
  })
  socket.stream.on('error', answered.reject)
  try {
    if (!calls.send(socket.fd, listenMessage(ours))) {
      const errno = calls.errno()
      const where = errno === ECONNREFUSED ? ', as outside the first network namespace' : ''
      throw unable(`asking for them failed with errno ${errno}${where}`)
    }
    const errno = await answered.promise
    if (errno !== 0) throw unable(errno < 0 ? 'it does not answer' : `it answered with errno ${errno}`)
  } catch (error) {
    socket.stream.destroy()
    throw error
  } finally {
    clearTimeout(timer)
  }
  socket.stream.unref()
  return { [Symbol.dispose]: () => void socket.stream.destroy() }
}

const unable = (why: string) => new DarnerError('HOST_UNABLE', `the kernel's process events: ${why}`)

/** A datagram socket that libuv reads as it reads any stream; `fd` is the stream's own. */
function listeningSocket(calls: NetlinkCalls): { fd: number; stream: Socket } {
  const failed = (step: string) => unable(`${step} failed with errno ${calls.errno()}`)
  const fd = calls.socket(AF_NETLINK, SOCK.DGRAM | SOCK.CLOEXEC | SOCK.NONBLOCK, NETLINK_CONNECTOR)
  if (fd < 0) throw failed('socket')
  try {
    if (!calls.attachFilter(fd, FILTER)) throw failed('the filter')
    // what is too much is lost, and the rest goes on
    if (!calls.setFlag(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS)) throw failed('setsockopt')
    if (calls.bind(fd, groupAddress(), 12) !== 0) throw failed('bind')
    const { stream, copy } = streamOver(calls, fd, { failed })
    return { fd: copy, stream }
  } finally {
    closeSync(fd)
  }
}

/** sockaddr_nl: the group of process events. */
function groupAddress(): Buffer {
  const address = Buffer.alloc(12)
  address.writeUInt16LE(AF_NETLINK, 0)
  address.writeUInt32LE(CN_IDX_PROC, 8)
  return address
}

function listenMessage(ours: number): Buffer {
  const message = Buffer.alloc(LISTEN_BYTES)
  message.writeUInt32LE(LISTEN_BYTES, 0)
  message.writeUInt16LE(NLMSG_DONE, 4)
  message.writeUInt32LE(CN_IDX_PROC, 16)
  message.writeUInt32LE(CN_VAL_PROC, 20)
  message.writeUInt32LE(ours, AT.ack)
  message.writeUInt16LE(4, 32)
  message.writeUInt32LE(PROC_CN_MCAST_LISTEN, AT.what)
  return message
}

/**
 * Classic BPF, so that a host that starts a thousand processes a second doesn't wake this one for them. It lets through answers, core
 * dumps, and exits by a signal. Words are loaded in the network's order, so constants stand the other way round.
 */
const FILTER = filterOf([
  [0x20, 0, 0, AT.what], // load the word `what`
  [0x15, 4, 0, EVENT.NONE], // equal: take it
  [0x15, 3, 0, EVENT.COREDUMP >>> 24],
  [0x15, 0, 3, EVENT.EXIT >>> 24], // unequal: drop it
  [0x30, 0, 0, AT.data + 8], // load the lowest byte of the exit code
  [0x45, 0, 1, 0x7f], // no bit of it: drop it
  [0x06, 0, 0, 0xffffffff],
  [0x06, 0, 0, 0],
])

function filterOf(program: readonly (readonly [code: number, yes: number, no: number, k: number])[]): Buffer {
  const filter = Buffer.alloc(8 * program.length)
  for (const [at, [code, yes, no, k]] of program.entries()) {
    filter.writeUInt16LE(code, 8 * at)
    filter.writeUInt8(yes, 8 * at + 2)
    filter.writeUInt8(no, 8 * at + 3)
    filter.writeUInt32LE(k, 8 * at + 4)
  }
  return filter
}

interface NetlinkCalls extends SocketCalls {
  attachFilter(fd: number, filter: Buffer): boolean
  setFlag(fd: number, level: number, name: number): boolean
  send(fd: number, message: Buffer): boolean
}

async function netlinkCalls(): Promise<NetlinkCalls> {
  const { default: koffi } = await import('koffi')
  const lib = koffi.load(null)
  const program = koffi.struct({ length: 'uint16_t', filter: 'void *' })
  const attach = lib.func('setsockopt', 'int', ['int', 'int', 'int', koffi.pointer(program), 'uint32_t'])
  const setInt = lib.func('int setsockopt(int, int, int, const int *, uint32_t)')
  const send = lib.func('int64_t send(int, const void *, uint64_t, int)')
  return {
    ...(await socketCalls()),
    attachFilter: (fd, filter) =>
      attach(fd, SOL_SOCKET, SO_ATTACH_FILTER, { length: filter.byteLength / 8, filter }, koffi.sizeof(program)) === 0,
    setFlag: (fd, level, name) => setInt(fd, level, name, [1], 4) === 0,
    send: (fd, message) => Number(send(fd, message, message.byteLength, 0)) === message.byteLength,
  }
}
