/**
 * What strangers cost the swarm. Junk comes from one address, and from 100 addresses of loopback, while hosts of the swarm ask the
 * supernode something every quarter of a second: how late is the worst answer, and how large does the supernode grow?
 */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { CONTROL, CONTROL_VERSION } from '../src/protocol/control.ts'
import { openSession } from '../src/protocol/open-session.ts'
import { aDir } from '../test/fixtures/host/a-dir.ts'
import { aProgram, aSupernodeProcess, type Daemon } from '../test/fixtures/swarm/a-daemon.ts'
import { aNode } from '../test/fixtures/swarm/a-node.ts'
import type { Figure } from './figure.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'

export const about = 'how late honest hosts are answered, and how large the supernode grows, while strangers send junk'
export const options = {
  connections: { summary: 'of junk, in each part', value: 'N', default: '10000' },
  seconds: { summary: 'a part ends after so long, whatever came', value: 'N', default: '60' },
  hosts: { summary: 'that ask every 250 ms', value: 'N', default: '16' },
} as const satisfies BenchOptions

const BENCH = 'strangers'
const EACH_MS = 250
const QUIET_MS = 5_000
const DIGEST = `sha256:${'a'.repeat(64)}`
const JUNK = new URL('strangers/junk.ts', import.meta.url).pathname
const GOALS = { lateMs: '<=1000', rssMib: '<=512' }

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const connections = numberOf('connections', values.connections, { least: 1, whole: true })
  const seconds = numberOf('seconds', values.seconds, { least: 1 })
  const hosts = numberOf('hosts', values.hosts, { least: 1, whole: true })
  await using dir = await aDir()
  await using supernode = await aSupernodeProcess(dir.path, [])
  const token = (await readFile(join(dir.path, 'supernode', 'join-token'), 'utf8')).trim()
  const figures: Figure[] = []
  const add = (figure: string, value: number, unit: string, goal?: string) =>
    figures.push({ bench: BENCH, figure, value, unit, ...(goal === undefined ? {} : { goal }) })
  await using honest = await honestHosts(supernode.line, token, hosts)
  await pause(QUIET_MS, undefined, { signal })
  add('worst answer, nobody else', honest.worstMs(), 'ms')
  for (const [name, addresses] of [
    ['one address', 1],
    ['100 addresses', 100],
  ] as const) {
    honest.begin()
    const sent = await junk(supernode, { addresses, connections, seconds }, signal)
    add(`junk connections, ${name}`, sent, 'connections')
    add(`worst answer, junk from ${name}`, honest.worstMs(), 'ms', GOALS.lateMs)
    add(`sessions lost, junk from ${name}`, honest.lost(), 'sessions', '<=0')
    const { peak } = await supernode.memory()
    add(`peak RSS of the supernode, junk from ${name}`, peak / 1024 ** 2, 'MiB', GOALS.rssMib)
  }
  return figures
}

/** Sends junk from a process of its own; resolves with how many connections it made. */
async function junk(
  supernode: Daemon,
  { addresses, connections, seconds }: { addresses: number; connections: number; seconds: number },
  signal: AbortSignal,
): Promise<number> {
  // it prints one line, when it is done
  const words = [JUNK, supernode.line, addresses, connections, seconds].map(String)
  const sending = aProgram(words)
  const stopped = once(signal, 'abort').then(() => Promise.reject(signal.reason))
  await using sender = await Promise.race([sending, stopped])
  return Number(sender.line)
}

/** Hosts of the swarm that ask the supernode at their times, late or not. */
async function honestHosts(supernode: string, token: string, count: number) {
  const over = new AbortController()
  const within = () => ({ signal: AbortSignal.timeout(20_000) })
  let worst = 0
  let lost = 0
  const host = async (number: number) => {
    const node = await aNode({ listen: [] })
    const session = await openSession(node, supernode, CONTROL, {}, within())
    const hello = { version: CONTROL_VERSION, software: 'bench', host: `h${number}`, lanes: [], multiaddrs: [], token }
    await session.ask('hello', hello, within())
    void session.closed.then(() => {
      if (!over.signal.aborted) lost++
    })
    const asking = (async () => {
      for (let due = performance.now() + (EACH_MS * number) / count; !over.signal.aborted; due += EACH_MS) {
        const waitMs = due - performance.now()
        if (waitMs > 0) await pause(waitMs, undefined, { signal: over.signal })
        await session.ask('why', { task: DIGEST }, { signal: over.signal })
        worst = Math.max(worst, performance.now() - due)
      }
    })().catch(() => {
      if (!over.signal.aborted) worst = Number.POSITIVE_INFINITY
    })
    return { node, asking }
  }
  const all = await Promise.all(Array.from({ length: count }, (_, number) => host(number)))
  return {
    begin: () => {
      worst = 0
      lost = 0
    },
    worstMs: () => worst,
    lost: () => lost,
    [Symbol.asyncDispose]: async () => {
      over.abort()
      await Promise.all(all.map(({ asking }) => asking))
      await Promise.all(all.map(({ node }) => node.close()))
    },
  }
}
