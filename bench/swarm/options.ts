/** What a run of the swarm bench is made of, how it is said on the command line, and the least time it could take. */
import { type BenchOptions, oneOf, readOptions } from '../options.ts'

export const RIVALS = ['link', 'darner', 'aria2', 'curl'] as const
export type Rival = (typeof RIVALS)[number]

export interface SwarmBenchOptions {
  /** All hosts of the bed; the first is origin and seed, the others receive. */
  readonly hosts: number
  readonly bitsPerSec: number
  readonly bytes: number
  readonly mtu: number
  /** Of the receivers, how many have a tenth of the rate. */
  readonly slow: number
  readonly rounds: number
  readonly only: ReadonlySet<Rival>
  readonly queueMs: number
  /** Where the hosts' files are; a folder below it is made and removed. */
  readonly directory: string | undefined
  /** Leaves logs and profiles there. */
  readonly keep: boolean
  /** Takes CPU profiles of the supernode, of one agent and of one command. */
  readonly profile: boolean
  readonly logLevel: string
  /** Says where the time of a darner round goes, by what agents log of each piece. */
  readonly stages: boolean
  /** How TCP shares the links, by the kernel's name for it; the machine's own way without it. */
  readonly congestion: string | undefined
}

/** What the command line can say. */
export const SWARM_OPTIONS = {
  hosts: { value: 'N', summary: 'hosts of the bed; the first is origin and seed', default: '8' },
  mbit: { value: 'N', summary: "each host's link, both ways, in Mbit/s", default: '100' },
  size: { value: 'SIZE', summary: 'of the blob; 100M is 100 MiB', default: '100M' },
  mtu: { value: 'BYTES', summary: 'of the links', default: '1500' },
  slow: { value: 'N', summary: 'receivers at a tenth of the rate', default: '0' },
  rounds: { value: 'N', summary: 'of each rival; the first is of fresh daemons', default: '3' },
  only: { value: 'RIVAL,…', summary: 'only these', default: RIVALS.join() },
  queue: { value: 'MS', summary: 'longest queue at a link', default: '50' },
  dir: { value: 'DIR', summary: "where the hosts' files are, in a folder that is removed again" },
  keep: { summary: 'leave logs and profiles there' },
  prof: { summary: 'take CPU profiles of the supernode, of one agent and of one command' },
  stages: { summary: "say where the time of darner's rounds goes, by what agents log of each piece" },
  congestion: { value: 'NAME', summary: "how TCP shares links: cubic, bbr, reno (default: the machine's own)" },
  log: { value: 'LEVEL', summary: "log level of darner's daemons", default: 'warn' },
} as const satisfies BenchOptions

/** Throws BAD_ARGUMENT, and RangeError for what makes no bed. */
export function parseSwarmArgs(args: string[]): SwarmBenchOptions {
  const { values } = readOptions(SWARM_OPTIONS, args)
  const only = values.only.split(',').map((name) => oneOf('only', name, RIVALS))
  const options = {
    hosts: whole('--hosts', values.hosts, 2, 254),
    bitsPerSec: whole('--mbit', values.mbit, 1, 100_000) * 1e6,
    bytes: parseSize(values.size),
    mtu: whole('--mtu', values.mtu, 576, 65_535),
    slow: whole('--slow', values.slow, 0, 253),
    rounds: whole('--rounds', values.rounds, 1, 100),
    only: new Set(only),
    queueMs: whole('--queue', values.queue, 1, 10_000),
    directory: values.dir,
    keep: values.keep,
    profile: values.prof,
    logLevel: values.stages ? `${values.log},peer/engine=trace` : values.log,
    stages: values.stages,
    congestion: nameOf('--congestion', values.congestion),
  }
  if (options.slow >= options.hosts - 1)
    throw new RangeError(`--slow: expected fewer than the ${options.hosts - 1} receivers, got ${options.slow}`)
  return options
}

/** It goes into a command of `ip -batch`. */
function nameOf(option: string, text: string | undefined): string | undefined {
  if (text !== undefined && !/^[a-z0-9_-]{1,15}$/.test(text))
    throw new RangeError(`${option}: expected a name, got '${text}'`)
  return text
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`${name}: expected ${least} to ${most}, got '${text}'`)
  return value
}

/** `100M` is 100 MiB. */
export function parseSize(text: string): number {
  const found = /^(\d+)([KMG]?)(?:iB)?$/i.exec(text)
  const power = ['', 'K', 'M', 'G'].indexOf(found?.[2]?.toUpperCase() ?? '')
  const bytes = Number(found?.[1]) * 1024 ** power
  if (!found || !Number.isSafeInteger(bytes) || bytes < 1)
    throw new RangeError(`--size: expected a number with K, M or G, got '${text}'`)
  return bytes
}

/** The rate of each host's link, both ways, in bits per second. The slow ones are in the middle: neither the first nor the last to begin. */
export function linkRates(options: Pick<SwarmBenchOptions, 'hosts' | 'bitsPerSec' | 'slow'>): number[] {
  const { hosts, bitsPerSec, slow } = options
  const first = Math.ceil((hosts - slow) / 2)
  const isSlow = (host: number) => host >= first && host < first + slow
  return Array.from({ length: hosts }, (_, host) => (isSlow(host) ? bitsPerSec / 10 : bitsPerSec))
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
