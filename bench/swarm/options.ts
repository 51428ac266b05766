/** What a run of the swarm bench is made of, how it is said on the command line, and the least time it could take. */
import { type BenchOptions, type BenchValues, numberOf, oneOf, readOptions } from '../options.ts'

export const RIVALS = ['link', 'darner', 'aria2', 'curl'] as const
export type Rival = (typeof RIVALS)[number]

export interface SwarmBenchOptions {
  /** Receivers. Beside them the bed has one host more: origin, supernode and seed. */
  readonly hosts: number
  readonly bitsPerSec: number
  readonly bytes: number
  readonly mtu: number
  /** The link of one receiver is this share of the others'. */
  readonly slowHost: number | undefined
  /** A round is over when all others are done. */
  readonly leaveSlow: boolean
  /** How often the daemons are started anew, and how many rounds each of those swarms plays. */
  readonly fresh: number
  readonly rounds: number
  readonly only: ReadonlySet<Rival>
  readonly queueMs: number
  readonly burstBytes: number
  /** Of the packets that reach a host, how many are lost. */
  readonly lossPercent: number
  /** The supernode is killed so long after the start of each first round. */
  readonly killSupernodeAtMs: number | undefined
  /** Whether the commands know the blob's digest. */
  readonly digest: boolean
  /** Where the hosts' files are; a folder below it is made and removed. */
  readonly directory: string | undefined
  /** Logs and profiles are written here, and stay. */
  readonly keepLogs: string | undefined
  /** Takes CPU profiles of the supernode, of two agents and of one command. */
  readonly profile: boolean
  readonly logLevel: string
  /** Says where the time of a darner round goes, by what agents log of each piece. */
  readonly stages: boolean
  /** How TCP shares the links, by the kernel's name for it; the machine's own way without it. */
  readonly congestion: string | undefined
}

/** What the command line can say of one bed. */
export const BED_OPTIONS = {
  hosts: { value: 'N', summary: 'receivers, beside one host that is origin, supernode and seed', default: '8' },
  mbit: { value: 'N', summary: "each host's link, both ways, in Mbit/s", default: '100' },
  size: { value: 'SIZE', summary: 'of the blob; 100M is 100 MiB', default: '100M' },
  mtu: { value: 'BYTES', summary: 'of the links', default: '1500' },
  congestion: { value: 'NAME', summary: "how TCP shares links: cubic, bbr, reno (default: the machine's own)" },
  queue: { value: 'MS', summary: 'longest queue at a link', default: '100' },
  burst: { value: 'BYTES', summary: 'what may pass a link at once (default: 64K)' },
  loss: { value: 'PERCENT', summary: 'of the packets that reach a host are lost', default: '0' },
  'slow-host': { value: 'FACTOR', summary: 'the link of one receiver is this share of the others, such as 0.1' },
  'leave-slow': { summary: 'a round is over when all hosts but the slow one are done' },
  'kill-supernode-at': { value: 'S', summary: 'kill -9 of the supernode so many seconds into the first round' },
  'without-digest': { summary: 'the commands name the URL only' },
  rounds: { value: 'N', summary: 'of each rival; the first is of fresh daemons', default: '2' },
  fresh: { value: 'N', summary: 'so often darner is started anew and plays its rounds', default: '1' },
  only: { value: 'RIVAL,…', summary: 'only these', default: RIVALS.join() },
  dir: { value: 'DIR', summary: "where the hosts' files are, in a folder that is removed again" },
  'keep-logs': { value: 'DIR', summary: "daemons' logs, and profiles, stay there" },
  prof: { summary: 'take CPU profiles of the supernode, of two agents and of one command; needs --keep-logs' },
  stages: { summary: "say where the time of darner's rounds goes, by what agents log of each piece" },
  log: { value: 'LEVEL', summary: "log level of darner's daemons; joins are read there, at info", default: 'info' },
} as const satisfies BenchOptions

/** Throws BAD_ARGUMENT, and RangeError for what makes no bed. */
export function parseSwarmArgs(args: readonly string[]): SwarmBenchOptions {
  return swarmOptionsOf(readOptions(BED_OPTIONS, args).values)
}

/** The same of values that have been read. */
export function swarmOptionsOf(values: BenchValues<typeof BED_OPTIONS>): SwarmBenchOptions {
  const killAt = values['kill-supernode-at']
  const slow = values['slow-host']
  const options = {
    hosts: whole('--hosts', values.hosts, 1, 253),
    bitsPerSec: whole('--mbit', values.mbit, 1, 100_000) * 1e6,
    bytes: parseSize('--size', values.size),
    mtu: whole('--mtu', values.mtu, 576, 65_535),
    slowHost: slow === undefined ? undefined : share('--slow-host', slow),
    leaveSlow: values['leave-slow'],
    fresh: whole('--fresh', values.fresh, 1, 100),
    // who lost the supernode has none in a round after it
    rounds: killAt === undefined ? whole('--rounds', values.rounds, 1, 100) : 1,
    only: new Set(values.only.split(',').map((name) => oneOf('only', name, RIVALS))),
    queueMs: whole('--queue', values.queue, 1, 10_000),
    burstBytes: parseSize('--burst', values.burst ?? '64K'),
    lossPercent: 100 * share('--loss', String(Number(values.loss) / 100)),
    killSupernodeAtMs: killAt === undefined ? undefined : 1000 * numberOf('kill-supernode-at', killAt, { least: 0 }),
    digest: !values['without-digest'],
    directory: values.dir,
    keepLogs: values['keep-logs'],
    profile: values.prof,
    logLevel: values.stages ? `${values.log},peer/downloader=trace` : values.log,
    stages: values.stages,
    congestion: nameOf('--congestion', values.congestion),
  }
  if (options.slowHost !== undefined && options.hosts < 2)
    throw new RangeError('--slow-host: expected two receivers or more')
  if (options.profile && options.keepLogs === undefined) throw new RangeError('--prof: needs --keep-logs')
  return options
}

/** Of one bed, for people: `28 × 3 Mbit/s, 16 MiB, MTU 1500, bbr, burst 64 KiB`. */
export function bedName(options: SwarmBenchOptions): string {
  const { hosts, bitsPerSec, bytes, mtu, congestion, burstBytes, slowHost, lossPercent, killSupernodeAtMs } = options
  return [
    `${hosts} × ${bitsPerSec / 1e6} Mbit/s`,
    `${bytes / 1024 ** 2} MiB`,
    ...(mtu === 1500 ? [] : [`MTU ${mtu}`]),
    ...(congestion === undefined ? [] : [congestion]),
    `burst ${burstBytes / 1024} KiB`,
    ...(slowHost === undefined ? [] : [`one host at ${slowHost}`]),
    ...(lossPercent === 0 ? [] : [`${lossPercent} % lost`]),
    ...(killSupernodeAtMs === undefined ? [] : [`supernode killed at ${killSupernodeAtMs / 1000} s`]),
    ...(options.digest ? [] : ['without digest']),
  ].join(', ')
}

/** It becomes a file below /proc/sys and a word of a command. */
function nameOf(option: string, text: string | undefined): string | undefined {
  if (text !== undefined && !/^[a-z0-9_-]{1,15}$/.test(text))
    throw new RangeError(`${option}: expected a name, got '${text}'`)
  return text
}

function share(name: string, text: string): number {
  const value = Number(text)
  if (!(value >= 0 && value < 1)) throw new RangeError(`${name}: expected a share from 0 to below 1, got '${text}'`)
  return value
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`${name}: expected ${least} to ${most}, got '${text}'`)
  return value
}

/** `100M` is 100 MiB. */
export function parseSize(name: string, text: string): number {
  const found = /^(\d+)([KMG]?)(?:iB)?$/i.exec(text)
  const power = ['', 'K', 'M', 'G'].indexOf(found?.[2]?.toUpperCase() ?? '')
  const bytes = Number(found?.[1]) * 1024 ** power
  if (!found || !Number.isSafeInteger(bytes) || bytes < 1)
    throw new RangeError(`${name}: expected a number with K, M or G, got '${text}'`)
  return bytes
}

/**
 * The rate of each host's link, both ways, in bits per second, the seed's first. The slow one is in the middle: neither the first nor the
 * last to begin.
 */
export function linkRates(options: Pick<SwarmBenchOptions, 'hosts' | 'bitsPerSec' | 'slowHost'>): number[] {
  const { hosts, bitsPerSec, slowHost } = options
  const slowAt = slowHost === undefined ? -1 : Math.ceil(hosts / 2)
  return Array.from({ length: hosts + 1 }, (_, host) => (host === slowAt ? bitsPerSec * (slowHost ?? 1) : bitsPerSec))
}

/**
 * The fluid bound in seconds, max{ F/u_s, F/d_min, N·F/(u_s + Σu_i) }, for the receivers whose rates (bits per second, both ways
 * alike) are given; the seed has `seedBits`.
 */
export function boundSeconds(bytes: number, seedBits: number, receivers: readonly number[]): number {
  const bits = bytes * 8
  const uplinks = receivers.reduce((sum, rate) => sum + rate, seedBits)
  return Math.max(bits / seedBits, bits / Math.min(...receivers), (receivers.length * bits) / uplinks)
}
