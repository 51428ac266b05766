/**
 * Connects to a unix socket of type SOCK_SEQPACKET, which node:net can't open. libc makes and connects it. Its descriptor then takes the
 * place of one half of an ordinary stream pair that a net.Socket already holds. From there on libuv reads and writes it, one packet per
 * call, so packets keep their borders and a slow reader holds the sender up.
 */
import { closeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { DarnerError } from '../../src/core/errors.ts'
import { SOCK, type SocketCalls, socketCalls, streamOver, unixAddress, unixSocket } from '../linux/unix-sockets.ts'

const EAGAIN = 11
/** A listener's queue that is full empties as soon as it accepts. */
const CONNECT_TRIES = 200
const CONNECT_PAUSE_MS = 5
const MSG_DONTWAIT = 0x40
/** conmon's packets have at most 8 KiB and one. */
const MOST_PACKET_BYTES = 65_536

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
  const c = await socketCalls()
  const failed = (step: string): DarnerError =>
    new DarnerError('CLOSED', `connecting to ${path}: ${step} failed with errno ${c.errno()}`)
  // libuv makes the pair's half non-blocking; the socket that takes its place must come so by itself, or writes block all
  const fd = unixSocket(c, SOCK.SEQPACKET | SOCK.CLOEXEC | SOCK.NONBLOCK)
  if (fd < 0) throw failed('socket')
  try {
    using address = addressOf(path)
    for (let tries = 0; c.connect(fd, address.bytes, address.bytes.byteLength) !== 0; tries++) {
      if (c.errno() !== EAGAIN || tries === CONNECT_TRIES) throw failed('connect')
      await new Promise((resolve) => setTimeout(resolve, CONNECT_PAUSE_MS))
    }
    const { stream } = streamOver(c, fd, { allowHalfOpen: true, failed })
    return drive(c, fd, stream, handlers)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function addressOf(path: string): ReturnType<typeof unixAddress> {
  try {
    return unixAddress(path)
  } catch (error) {
    if (error instanceof DarnerError) throw error
    throw new DarnerError('CLOSED', `connecting to ${path}: its folder can't be opened`, { cause: error })
  }
}

function drive(c: SocketCalls, fd: number, socket: Socket, handlers: SeqpacketHandlers): SeqpacketSocket {
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
