/**
 * The packet filter rules of the engine's bridges: chains of its own in iptables (ip6tables for IPv6). iptables-restore writes each whole
 * and at once, with any backend. Per-port rules are portmap's. Traffic from outside reaches a bridge only as an answer or through a
 * published port, so networks can't reach each other.
 */
import { spawn } from 'node:child_process'
import { DarnerError } from '../../src/core/errors.ts'
import { missing, PROGRAM_ENV, runProgram } from '../shim/program.ts'

export interface BridgeRules {
  readonly bridge: string
  readonly subnet: string
  readonly internal: boolean
}

export type Family = 'ipv4' | 'ipv6'

const PROGRAM = { ipv4: 'iptables', ipv6: 'ip6tables' } as const
const hooksOf = (tag: string) => [
  { table: 'filter', hook: 'FORWARD', chain: `DARNER-FWD-${tag}` },
  { table: 'nat', hook: 'POSTROUTING', chain: `DARNER-NAT-${tag}` },
]
/** portmap's top chains: made by its first ADD, left by its last DEL. */
const PORTMAP_HOOKS = [
  '-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
  '-D OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
  '-D POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ',
]
const PORTMAP_CHAINS = ['CNI-HOSTPORT-DNAT', 'CNI-HOSTPORT-MASQ', 'CNI-HOSTPORT-SETMARK']

type Waits = { readonly signal: AbortSignal }

/** The rules for a set of bridges, as iptables-restore reads them: a pure function. `tag` keeps agents on one host apart. */
export function rulesText(tag: string, bridges: readonly BridgeRules[]): string {
  const forward = [
    ...bridges.flatMap(({ bridge, internal }) => [
      `-i ${bridge} -o ${bridge} -j ACCEPT`,
      ...(internal
        ? []
        : [
            `-o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
            `-o ${bridge} -m conntrack --ctstate DNAT -j ACCEPT`,
          ]),
    ]),
    ...bridges.flatMap(({ bridge, internal }) => [
      `-o ${bridge} -j DROP`,
      ...(internal ? [`-i ${bridge} -j DROP`] : []),
    ]),
    ...bridges.map(({ bridge }) => `-i ${bridge} -j ACCEPT`),
  ]
  const nat = bridges
    .filter((one) => !one.internal)
    .map(({ bridge, subnet }) => `-s ${subnet} ! -o ${bridge} -j MASQUERADE`)
  const table = (name: string, chain: string, rules: readonly string[]) =>
    [`*${name}`, `:${chain} - [0:0]`, ...rules.map((rule) => `-A ${chain} ${rule}`), 'COMMIT'].join('\n')
  return `${table('filter', `DARNER-FWD-${tag}`, forward)}\n${table('nat', `DARNER-NAT-${tag}`, nat)}\n`
}

/** Makes the rules of a family those of `bridges`, or takes all away when there are none. Throws NETWORK_FAILED, RUNTIME_MISSING. */
export async function applyRules(
  family: Family,
  tag: string,
  bridges: readonly BridgeRules[],
  { signal }: Waits,
): Promise<void> {
  const program = PROGRAM[family]
  if (bridges.length === 0) return removeRules(program, tag, { signal })
  await restore(program, rulesText(tag, bridges), { signal })
  for (const { table, hook, chain } of hooksOf(tag)) {
    const rule = ['-w', '-t', table]
    const there = await runProgram(program, [...rule, '-C', hook, '-j', chain], { signal })
    if (there.code === 0) continue
    const made = await runProgram(program, [...rule, '-I', hook, '-j', chain], { signal })
    if (made.code !== 0) throw new DarnerError('NETWORK_FAILED', `${program} -I ${hook}: ${made.stderr.trim()}`)
  }
}

async function removeRules(program: string, tag: string, { signal }: Waits): Promise<void> {
  for (const { table, hook, chain } of hooksOf(tag)) {
    // each fails when there is nothing to take away
    await runProgram(program, ['-w', '-t', table, '-D', hook, '-j', chain], { signal })
    await runProgram(program, ['-w', '-t', table, '-F', chain], { signal })
    await runProgram(program, ['-w', '-t', table, '-X', chain], { signal })
  }
}

/** Takes portmap's top chains away if no container, of whichever engine, publishes a port: all in one transaction, or nothing. */
export async function removeIdlePortmap(family: Family, { signal }: Waits): Promise<void> {
  const text = ['*nat', ...PORTMAP_HOOKS, '-F CNI-HOSTPORT-MASQ', '-F CNI-HOSTPORT-SETMARK']
    .concat(PORTMAP_CHAINS.map((chain) => `-X ${chain}`))
    .concat(['COMMIT', ''])
    .join('\n')
  try {
    await restore(PROGRAM[family], text, { signal })
  } catch (error) {
    if (!(error instanceof DarnerError && error.code === 'NETWORK_FAILED')) throw error // in use, or not there
  }
}

/** Ids of the attachments to `networks` that portmap has rules for. */
export async function portmapIds(family: Family, { signal }: Waits): Promise<{ network: string; id: string }[]> {
  const { code, stdout } = await runProgram(PROGRAM[family], ['-w', '-t', 'nat', '-S', 'CNI-HOSTPORT-DNAT'], { signal })
  if (code !== 0) return [] // there is no such chain
  return [...stdout.matchAll(/dnat name: \\?"([^"\\]+)\\?" id: \\?"([^"\\]+)\\?"/g)].map(
    ([, network = '', id = '']) => ({
      network,
      id,
    }),
  )
}

function restore(program: string, text: string, { signal }: Waits): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const path = `${program}-restore`
    const child = spawn(path, ['--noflush', '--wait'], { stdio: ['pipe', 'ignore', 'pipe'], env: PROGRAM_ENV })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr = (stderr + chunk).slice(-4096)
    })
    child.stdin.on('error', () => {}) // EPIPE: its exit code tells
    child.stdin.end(text)
    child.once('error', (error) => reject(missing(path, error)))
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new DarnerError('NETWORK_FAILED', `${path}: ${stderr.trim() || `exit code ${code}`}`))
    })
  })
}
