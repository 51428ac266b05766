/** What this process may hand on at most: its bounding set and hard limits. A spec beyond them makes runc and crun refuse. */
import { readFile } from 'node:fs/promises'
import { DarnerError } from '../../src/core/errors.ts'
import type { OciRlimit } from './oci-spec.ts'

/** Capability names by bit (linux/capability.h). */
export const CAPABILITY_NAMES: readonly string[] = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE ' +
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN ' +
  'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE ' +
  'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
)
  .split(' ')
  .map((name) => `CAP_${name}`)

export interface HostLimits {
  /** The bounding set, as `CAP_…` names. */
  readonly capabilities: ReadonlySet<string>
  /** Hard limits by `RLIMIT_…` name; Infinity when unlimited. */
  readonly hard: ReadonlyMap<string, number>
}

const LIMIT_NAMES: Readonly<Record<string, string>> = {
  'Max cpu time': 'RLIMIT_CPU',
  'Max file size': 'RLIMIT_FSIZE',
  'Max data size': 'RLIMIT_DATA',
  'Max stack size': 'RLIMIT_STACK',
  'Max core file size': 'RLIMIT_CORE',
  'Max resident set': 'RLIMIT_RSS',
  'Max processes': 'RLIMIT_NPROC',
  'Max open files': 'RLIMIT_NOFILE',
  'Max locked memory': 'RLIMIT_MEMLOCK',
  'Max address space': 'RLIMIT_AS',
  'Max file locks': 'RLIMIT_LOCKS',
  'Max pending signals': 'RLIMIT_SIGPENDING',
  'Max msgqueue size': 'RLIMIT_MSGQUEUE',
  'Max nice priority': 'RLIMIT_NICE',
  'Max realtime priority': 'RLIMIT_RTPRIO',
  'Max realtime timeout': 'RLIMIT_RTTIME',
}

/** Reads this process's own limits. */
export async function readHostLimits(): Promise<HostLimits> {
  const [status, limits] = await Promise.all([
    readFile('/proc/self/status', 'utf8'),
    readFile('/proc/self/limits', 'utf8'),
  ])
  return { capabilities: parseBoundingSet(status), hard: parseLimits(limits) }
}

/** The bounding set out of `/proc/PID/status`. Throws INTERNAL when the line isn't there. */
export function parseBoundingSet(status: string): ReadonlySet<string> {
  const hex = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  if (hex === undefined) throw new DarnerError('INTERNAL', 'reading the bounding set: /proc/self/status has no CapBnd')
  const bits = BigInt(`0x${hex}`)
  return new Set(CAPABILITY_NAMES.filter((_, bit) => (bits >> BigInt(bit)) & 1n))
}

/** Hard limits out of `/proc/PID/limits`. */
export function parseLimits(text: string): ReadonlyMap<string, number> {
  const hard = new Map<string, number>()
  for (const line of text.split('\n')) {
    const found = /^(Max [a-z ]+?)\s{2,}(\S+)\s+(\S+)/.exec(line)
    const name = found?.[1] === undefined ? undefined : LIMIT_NAMES[found[1]]
    if (name !== undefined && found) hard.set(name, found[3] === 'unlimited' ? Infinity : Number(found[3]))
  }
  return hard
}

/** Those of `wanted` that the host has, in order. */
export function withinBounds(wanted: readonly string[], host: HostLimits): string[] {
  return wanted.filter((name) => host.capabilities.has(name))
}

/** `wanted` lowered to the host's hard limits, unless the host may raise them (CAP_SYS_RESOURCE). */
export function clampRlimits(wanted: readonly OciRlimit[], host: HostLimits): OciRlimit[] {
  if (host.capabilities.has('CAP_SYS_RESOURCE')) return [...wanted]
  return wanted.map(({ type, soft, hard }) => {
    const most = host.hard.get(type) ?? Infinity
    return { type, soft: Math.min(soft, most), hard: Math.min(hard, most) }
  })
}
