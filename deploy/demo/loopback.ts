/** The part of the demo that needs no root: the swarm on loopback, and a made-up blob from a small origin to all agents. */
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { formatBytes } from '../../src/core/config/units.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import { isThere } from '../setup.ts'
import { type Daemon, run } from './command.ts'
import { darner } from './places.ts'
import { Bars, block, say, summary } from './story.ts'
import { type Agent, endSwarm, type Swarm, servedBy, startSwarm, supernodeBytes } from './swarm.ts'
import { bytesTable, type HostBytes } from './tables.ts'

export interface LoopbackOrder {
  readonly folder: string
  /** Folder of the daemons' logs. */
  readonly logs: string
  readonly agents: number
  readonly keep: boolean
}

const BLOB_BYTES = 64 * 1024 * 1024
const END_MS = 4000
const POLL_MS = 100

interface Summary {
  readonly digest: string
  readonly bytes: number
  readonly seconds: number
  readonly from: HostBytes['from']
}

/** Resolves when all is told; with `keep` when the signal says stop. Throws what failed first. */
export async function demoOnLoopback(order: LoopbackOrder, { signal }: { signal: AbortSignal }): Promise<void> {
  await using owned = new AsyncDisposableStack()
  const origin = owned.use(await anOrigin())
  say(`an origin on ${new URL(origin.url).host} with a blob of ${formatBytes(BLOB_BYTES)}`)
  // without a stage to end with, daemons end with the process that started them, also when that is killed
  const withUs = isThere('setpriv') ? ['setpriv', '--pdeathsig', 'KILL', '--'] : []
  const swarm = await startSwarm({
    folder: order.folder,
    logs: order.logs,
    supernode: { name: 'supernode', address: '127.0.0.1' },
    agents: Array.from({ length: order.agents }, (_, at) => ({ name: `host${at + 1}`, address: '127.0.0.1' })),
    ports: 'any',
    engine: false,
    at: (_place, command) => [...withUs, ...command],
    own: (daemon: Daemon) => owned.use(daemon),
    signal,
  })
  say(`supernode and ${swarm.agents.length} agents on 127.0.0.1`)
  const rows = await getEverywhere(order, swarm, origin, signal)
  say(`darner get on all ${rows.length} agents at once: every copy has the digest ${origin.digest.slice(0, 19)}…`)
  const { fromOrigins, fromHosts, seeded } = await supernodeBytes(swarm, { signal })
  block('Who got how many bytes from whom', [
    ...bytesTable(rows),
    '',
    `The supernode read ${formatBytes(fromOrigins)} at the origin and gave ${formatBytes(seeded)} to hosts.`,
    ...summary(
      { fromOrigin: fromOrigins + rows.reduce((sum, row) => sum + row.from.origin, 0), fromHosts, seeded },
      rows,
    ),
  ])
  const gets = origin.requests.filter((request) => request.startsWith('GET'))
  block('What the origin counted', [`${gets.length} × GET of the blob, ${origin.requests.length - gets.length} × HEAD`])
  if (gets.length !== 1)
    throw new DarnerError('INTERNAL', `the origin was not asked once for the blob: ${origin.requests.join('; ')}`)
  block('Try next', order.keep ? onThisSwarm(swarm.agents, origin.url) : onANewSwarm())
  if (order.keep) {
    process.stdout.write('\nAll of it stays up until Ctrl-C.\n')
    await abortable(new Promise<never>(() => {}), signal)
  }
  process.stdout.write('\n')
  const late = await endSwarm(swarm, END_MS)
  if (late.length > 0) say(`${late.join(', ')} did not end within ${END_MS / 1000} s of being told to: killed`)
}

async function getEverywhere(
  { folder }: LoopbackOrder,
  swarm: Swarm,
  origin: Origin,
  signal: AbortSignal,
): Promise<HostBytes[]> {
  using bars = new Bars(swarm.agents.map(({ name }) => name))
  return await Promise.all(
    swarm.agents.map(async (agent): Promise<HostBytes> => {
      const file = join(folder, `${agent.name}.blob`)
      const getting = run(darner('get', origin.url, '-o', file, '--json', '--socket', agent.socket), { signal })
      const { from, seconds } = await watched(agent, getting, bars, signal)
      const digest = await digestOfFile(file)
      if (digest !== origin.digest)
        throw new DarnerError('DIGEST_MISMATCH', `${file} has the digest ${digest}, the origin's is ${origin.digest}`)
      return { name: agent.name, from, seconds, served: await servedBy(agent, { signal }) }
    }),
  )
}

/** Moves the agent's bar until its command has ended; returns what that said. */
async function watched(agent: Agent, getting: Promise<string>, bars: Bars, signal: AbortSignal): Promise<Summary> {
  let done = false
  const ended = getting.finally(() => {
    done = true
  })
  ended.catch(() => {}) // awaited below
  while (!done) {
    const [task] = (await agent.client.json<Peer>('GET', '/v1/peer', { signal })).tasks
    const part = task === undefined || task.pieces === 0 ? 0 : task.have / task.pieces
    const from = { origin: 0, supernode: 0, peers: 0 }
    bars.show(agent.name, { have: Math.round(part * BLOB_BYTES), total: BLOB_BYTES, from })
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, POLL_MS))])
  }
  const summary = JSON.parse((await ended).trim().split('\n').at(-1) ?? '') as Summary
  bars.show(agent.name, { have: summary.bytes, total: summary.bytes, from: summary.from, note: 'done' })
  return summary
}

interface Peer {
  readonly tasks: readonly { readonly pieces: number; readonly have: number }[]
}

interface Origin extends AsyncDisposable {
  readonly url: string
  readonly digest: string
  /** `METHOD range` of every request. */
  readonly requests: string[]
}

/** An HTTP server with one blob of bytes that nobody has seen before. */
async function anOrigin(): Promise<Origin> {
  const body = randomBytes(BLOB_BYTES)
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.headers.range ?? ''}`.trim())
    response.writeHead(200, {
      'content-length': body.byteLength,
      'content-type': 'application/octet-stream',
      etag: '"blob"',
    })
    response.end(request.method === 'HEAD' ? undefined : body)
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/blob`,
    digest: `sha256:${createHash('sha256').update(body).digest('hex')}`,
    requests,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function digestOfFile(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return `sha256:${hash.digest('hex')}`
}

function onThisSwarm(agents: readonly Agent[], url: string): string[] {
  const socket = (at: number) => agents[Math.min(at, agents.length - 1)]?.socket ?? ''
  return [
    `npm run -s darner -- status --socket ${socket(0)}`,
    `npm run -s darner -- get ${url} -o /tmp/blob --json --socket ${socket(1)}`,
    `npm run -s darner -- get https://… -o FILE --socket ${socket(2)}`,
  ]
}

function onANewSwarm(): string[] {
  const demo = process.geteuid?.() === 0 ? 'npm run demo' : 'sudo npm run demo'
  return [
    `${demo.padEnd(44)}# with an image, namespaces and containers`,
    'npm run demo -- --loopback --keep           # leaves the swarm up, with commands to try on it',
    'npm run -s darner -- get --help',
  ]
}
