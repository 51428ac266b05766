/**
 * The bed's layout as commands for `ip -batch` and `tc -batch`: hosts on one bridge, each by a veth pair whose two ends are
 * shaped, so that what a host sends (its own end) and what it receives (the bridge's end) are held to the link's rate. Pure.
 */

export interface LinkShape {
  readonly bitsPerSec: number
  /** Bytes that may pass at once; one offloaded packet (64 KiB) must fit, or tbf cuts it up at a price in CPU. */
  readonly burstBytes: number
  /** How long a packet may wait in the queue before those behind it are dropped. */
  readonly queueMs: number
}

export interface BedOptions {
  readonly hosts: number
  readonly mtu: number
  readonly bitsPerSec: number
  /** Hosts with another rate, by number. */
  readonly rates?: ReadonlyMap<number, number>
  readonly queueMs?: number
  readonly burstBytes?: number
  /** Of the packets that reach a host, how many are lost. */
  readonly lossPercent?: number
  /** How TCP shares the links, by the kernel's name for it; the machine's own way without it. */
  readonly congestion?: string
}

const QUEUE_MS = 50
const BURST_BYTES = 80 * 1024
/** Hosts in one /24, .0 and .255 left out. */
export const MAX_HOSTS = 254
/** The link of a host, and the bridge's port of host 3. */
export const HOST_DEVICE = 'eth0'
export const portOf = (host: number) => `port${host}`

/** `10.77.0.1` is host 0. The addresses exist only inside the bed. */
export function addressOf(host: number): string {
  return `10.77.0.${host + 1}`
}

/** Throws RangeError for a bed that can't be made. */
export function shapeOf(options: BedOptions, host: number): LinkShape {
  const bitsPerSec = options.rates?.get(host) ?? options.bitsPerSec
  if (!(bitsPerSec > 0)) throw new RangeError(`link of host ${host}: ${bitsPerSec} bit/s`)
  return {
    bitsPerSec,
    // two milliseconds' worth on fast links, where the timer can't do better
    burstBytes: Math.max(options.burstBytes ?? BURST_BYTES, Math.ceil(bitsPerSec / 8 / 500)),
    queueMs: options.queueMs ?? QUEUE_MS,
  }
}

/** For `ip -batch`, inside the hub: the bridge and its ports. `pids[i]` is a process in the namespace of host i. */
export function hubCommands(options: BedOptions, pids: readonly number[]): string {
  const lines = ['link set lo up', `link add hub type bridge`, `link set hub mtu ${options.mtu} up`]
  for (const [host, pid] of pids.entries()) {
    lines.push(
      `link add ${portOf(host)} mtu ${options.mtu} type veth peer name ${HOST_DEVICE} mtu ${options.mtu} netns ${pid}`,
      `link set ${portOf(host)} master hub up`,
    )
  }
  return `${lines.join('\n')}\n`
}

/** For `ip -batch`, inside host `host`. */
export function hostCommands({ lossPercent = 0 }: BedOptions, host: number): string {
  return [
    'link set lo up',
    `addr add ${addressOf(host)}/24 dev ${HOST_DEVICE}`,
    // loss is by the packet: none may carry what on a wire is many
    ...(lossPercent > 0 ? [`link set ${HOST_DEVICE} gso_max_segs 1`] : []),
    `link set ${HOST_DEVICE} addrgenmode none up`,
    '',
  ].join('\n')
}

/** For `nft -f`, inside a host: loses that part of the packets that reach it. */
export function lossRules(lossPercent: number): string {
  const inMillion = Math.round(lossPercent * 10_000)
  return `table netdev loss {
  chain in {
    type filter hook ingress device ${HOST_DEVICE} priority 0
    numgen random mod 1000000 < ${inMillion} drop
  }
}
`
}

/** For `tc -batch`: one line for one device. */
export function shapeCommand(device: string, { bitsPerSec, burstBytes, queueMs }: LinkShape): string {
  return `qdisc add dev ${device} root tbf rate ${Math.round(bitsPerSec)}bit burst ${burstBytes}b latency ${queueMs}ms\n`
}

/** Bytes of TCP payload over bytes that the shaper counts: Ethernet header, IPv4, TCP with timestamps. */
export function payloadShare(mtu: number): number {
  return (mtu - 20 - 32) / (mtu + 14)
}
