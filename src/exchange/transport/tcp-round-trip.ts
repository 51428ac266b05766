/** What the kernel knows of how long a TCP connection's bytes take: `getsockopt(TCP_INFO)`, of tcp(7) and `linux/tcp.h`. */
import type { Socket } from 'node:net'
import koffi from 'koffi'
import type { RoundTrip } from '../limits/pace.ts'

const IPPROTO_TCP = 6
const TCP_INFO = 11
/** Where `struct tcp_info` has its smoothed round trip and the shortest of the last minutes (`tcp_min_rtt_wlen`), both in microseconds. */
const RTT_AT = 68
const MIN_RTT_AT = 148
const INFO_BYTES = MIN_RTT_AT + 4

const info = Buffer.alloc(INFO_BYTES)
const length: [number] = [INFO_BYTES]
let getsockopt: ((fd: number, level: number, name: number, value: Buffer, length: [number]) => number) | undefined

/** The descriptor of a socket, as long as it is open: Node has no name for it. Take it before TLS wraps the socket. */
export function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: number } }
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined
}

/** Undefined where the kernel doesn't say: no TCP socket, nothing confirmed yet. Takes microseconds. */
export function roundTripOf(fd: number): RoundTrip | undefined {
  getsockopt ??= koffi
    .load(null)
    .func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)')
  length[0] = INFO_BYTES
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, length) !== 0 || length[0] < INFO_BYTES) return undefined
  const leastUs = info.readUInt32LE(MIN_RTT_AT)
  // all ones: no way there and back was measured yet
  if (leastUs === 0xffffffff) return undefined
  return { nowMs: info.readUInt32LE(RTT_AT) / 1000, leastMs: leastUs / 1000 }
}
