/**
 * Do rate limits hold on the wire? A parent and a child on loopback with a TCP relay between them that counts: limits of host,
 * task and peer in both directions over 5 s, fairness between tasks, and a change in flight.
 */
import { createServer, connect as dialTcp, type Socket } from 'node:net'
import { systemClock } from '../src/core/clock.ts'
import type { ParentChannel, PeerAddress, Shelf } from '../src/core/contracts/exchange.ts'
import { silentLog } from '../src/core/log.ts'
import { Bitmap } from '../src/core/task/bitmap.ts'
import { MAX_PIECE_BYTES, type Task, type TaskId } from '../src/core/task/task.ts'
import { type LaneExchange, openExchange } from '../src/exchange/exchange.ts'
import { Giving } from '../src/exchange/handout/giving.ts'
import type { LimitScope } from '../src/exchange/limits/buckets.ts'
import { RateLimits } from '../src/exchange/limits/limits.ts'
import { newIdentity } from '../src/protocol/identity.ts'
import type { Figure } from './figure.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'

export const about = 'how exactly rate limits hold on the wire, how fair they are, and how soon a change takes effect'
export const options = {
  mbyte: { value: 'N', summary: 'the limits, in MB/s', default: '20' },
} as const satisfies BenchOptions

const BENCH = 'rates'
const PIECES = 1000
const SETTLE_MS = 500
const SPAN_MS = 5000
/** A change of a limit is watched this long, this often; what is held to the new rate is a window of so many. */
const CHANGE_MS = 4000
const SAMPLE_MS = 50
const WINDOW_MS = 500
/** Ethernet's MTU leaves 1,448 bytes of payload in a packet of 1,500; the relay sees payload only. */
const PACKET_FACTOR = 1500 / 1448

interface Rig extends AsyncDisposable {
  readonly parentLimits: RateLimits
  readonly childLimits: RateLimits
  readonly child: LaneExchange
  readonly childPeer: string
  readonly address: PeerAddress
  /** TCP payload bytes that the child has been sent. */
  relayed(): number
}

export async function run(
  args: string[],
  { signal = new AbortController().signal }: { signal?: AbortSignal } = {},
): Promise<Figure[]> {
  const bytesPerSec = numberOf('mbyte', readOptions(options, args).values.mbyte, { least: 1 }) * 1e6
  const figures: Figure[] = []
  for (const on of ['host', 'task', 'peer'] as const) {
    for (const direction of ['out', 'in'] as const) figures.push(...(await held(on, direction, bytesPerSec, signal)))
  }
  figures.push(await fairness(bytesPerSec, signal))
  figures.push(...(await change(bytesPerSec, signal)))
  return figures
}

const pause = (ms: number, signal: AbortSignal) => systemClock.sleep(ms, { signal })

async function held(
  on: 'host' | 'task' | 'peer',
  direction: 'in' | 'out',
  bytesPerSec: number,
  signal: AbortSignal,
): Promise<Figure[]> {
  await using rig = await aRig()
  const limits = direction === 'out' ? rig.parentLimits : rig.childLimits
  const task = taskOf(0)
  const peer = direction === 'out' ? rig.childPeer : rig.address.peer
  const scopes: Record<typeof on, LimitScope> = {
    host: { on: 'host' },
    task: { on: 'task', task: task.id },
    peer: { on: 'peer', peer },
  }
  limits.set(scopes[on], { bytesPerSec })
  await using _pull = await pulling(rig, task)
  await pause(SETTLE_MS, signal)
  const seconds = await measured(rig, SPAN_MS, signal)
  const rate = seconds.reduce((sum, one) => sum + one, 0) / (SPAN_MS / 1000)
  const figure = `${on} limit, ${direction}`
  return [
    { bench: BENCH, figure, value: rate / 1e6, unit: 'MB/s', anchor: 'limit', anchorValue: bytesPerSec / 1e6 },
    { bench: BENCH, figure: `${figure}: off by, TCP payload`, value: offBy(rate, bytesPerSec), unit: '%', goal: '<=5' },
    {
      bench: BENCH,
      figure: `${figure}: off by, in packets of 1,500`,
      value: offBy(rate * PACKET_FACTOR, bytesPerSec),
      unit: '%',
      goal: '<=5',
    },
  ]
}

async function fairness(bytesPerSec: number, signal: AbortSignal): Promise<Figure> {
  await using rig = await aRig()
  rig.parentLimits.set({ on: 'host' }, { bytesPerSec })
  const pulls = await Promise.all([0, 1, 2, 3].map((number) => pulling(rig, taskOf(number), 1 + number * 3)))
  await pause(SETTLE_MS, signal)
  const before = pulls.map(({ bytes }) => bytes())
  await pause(SPAN_MS, signal)
  const moved = pulls.map(({ bytes }, index) => bytes() - (before[index] ?? 0))
  for (const pull of pulls) await pull[Symbol.asyncDispose]()
  const sum = moved.reduce((total, one) => total + one, 0)
  const jain = sum ** 2 / (moved.length * moved.reduce((total, one) => total + one * one, 0))
  return {
    bench: BENCH,
    figure: 'fairness of 4 tasks with 1 to 10 requests (Jain)',
    value: jain,
    unit: '',
    goal: '>=0.95',
  }
}

/** How long after a change in flight the wire is at the new rate: down to a quarter, and up again. */
async function change(bytesPerSec: number, signal: AbortSignal): Promise<Figure[]> {
  await using rig = await aRig()
  const rates = { down: bytesPerSec / 4, up: bytesPerSec }
  rig.childLimits.set({ on: 'host' }, { bytesPerSec })
  await using _pull = await pulling(rig, taskOf(0))
  await pause(2 * SETTLE_MS, signal)
  const figures: Figure[] = []
  for (const [way, rate] of Object.entries(rates)) {
    rig.childLimits.set({ on: 'host' }, { bytesPerSec: rate })
    const samples = [{ ms: performance.now(), bytes: rig.relayed() }]
    for (let at = 0; at < CHANGE_MS; at += SAMPLE_MS) {
      await pause(SAMPLE_MS, signal)
      samples.push({ ms: performance.now(), bytes: rig.relayed() })
    }
    figures.push({
      bench: BENCH,
      figure: `limit change, ${way}: until ${WINDOW_MS} ms are within 15 % of it`,
      value: settledMs(samples, rate),
      unit: 'ms',
      goal: '<=1000',
    })
  }
  return figures
}

interface Sample {
  readonly ms: number
  readonly bytes: number
}

/** When the first window begins that is within 15 % of the rate, after the change; Infinity when none is. */
function settledMs(samples: readonly Sample[], rate: number): number {
  const start = samples[0]?.ms ?? 0
  for (const from of samples) {
    const to = samples.find(({ ms }) => ms - from.ms >= WINDOW_MS)
    if (to === undefined) break
    const seen = ((to.bytes - from.bytes) / (to.ms - from.ms)) * 1000
    if (offBy(seen, rate) <= 15) return from.ms - start
  }
  return Number.POSITIVE_INFINITY
}

const offBy = (rate: number, limit: number) => Math.abs(rate / limit - 1) * 100

/** Bytes relayed, per second of the span by the clock that was seen. */
async function measured(rig: Rig, ms: number, signal: AbortSignal): Promise<number[]> {
  const seconds: number[] = []
  for (let left = ms; left > 0; left -= 1000) {
    const from = { bytes: rig.relayed(), ms: performance.now() }
    await pause(1000, signal)
    seconds.push(((rig.relayed() - from.bytes) / (performance.now() - from.ms)) * 1000)
  }
  return seconds
}

/** Pieces of 512 KiB, so that several tasks show their share within a second. */
function taskOf(number: number): Task {
  return {
    id: `sha256:${String(number).repeat(64)}` as TaskId,
    bytes: PIECES * (MAX_PIECE_BYTES / 8),
    pieceBytes: MAX_PIECE_BYTES / 8,
  }
}

const shelf: Shelf = {
  open: async (id) => {
    const task = taskOf(Number(id.at(-1)))
    const have = Bitmap.full(PIECES)
    const giving = new Giving(PIECES, have, { clock: systemClock })
    return {
      task,
      have,
      check: () => undefined,
      renew: () => undefined,
      announces: true,
      onPieces: () => () => undefined,
      read: async () => undefined,
      give: (childHas) => giving.open(childHas),
      sent: () => undefined,
      [Symbol.dispose]: () => undefined,
    }
  },
}

/** Fetches pieces of a task, `width` at a time, until it is disposed. */
async function pulling(rig: Rig, task: Task, width = 8): Promise<AsyncDisposable & { bytes(): number }> {
  const ended = new AbortController()
  const { signal } = ended
  const channel: ParentChannel = await rig.child.open(rig.address, task, {
    pass: new Uint8Array(0),
    have: new Bitmap(PIECES),
    priority: 'interactive',
    signal,
  })
  let next = 0
  let bytes = 0
  const workers = Array.from({ length: width }, async () => {
    while (!signal.aborted) {
      const body = await channel.fetch(next++ % PIECES, { signal })
      bytes += body.byteLength
    }
  })
  const done = Promise.allSettled(workers)
  return {
    bytes: () => bytes,
    [Symbol.asyncDispose]: async () => {
      ended.abort()
      await done
      await channel[Symbol.asyncDispose]()
    },
  }
}

async function aRig(): Promise<Rig> {
  const [parentIdentity, childIdentity] = [await newIdentity(), await newIdentity()]
  const [parentLimits, childLimits] = [new RateLimits({ clock: systemClock }), new RateLimits({ clock: systemClock })]
  const parts = { shelf, admit: () => true, clock: systemClock, log: silentLog() }
  const parent = await openExchange(
    { listen: '127.0.0.1:0' },
    { ...parts, identity: parentIdentity, limits: parentLimits },
  )
  const child = await openExchange({}, { ...parts, identity: childIdentity, limits: childLimits })
  const sockets = new Set<Socket>()
  let relayed = 0
  const relay = createServer((near) => {
    const far = dialTcp(Number(parent.lanes[0]?.split(':')[1]), '127.0.0.1')
    far.on('data', (chunk) => {
      relayed += chunk.byteLength
    })
    near.pipe(far).pipe(near)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
    }
  })
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
  const place = relay.address()
  const port = typeof place === 'object' && place !== null ? place.port : 0
  return {
    parentLimits,
    childLimits,
    child,
    childPeer: childIdentity.peerId,
    address: { peer: parentIdentity.peerId, lanes: [`127.0.0.1:${port}`], multiaddrs: [] },
    relayed: () => relayed,
    [Symbol.asyncDispose]: async () => {
      await child[Symbol.asyncDispose]()
      await parent[Symbol.asyncDispose]()
      for (const socket of sockets) socket.destroy()
      relay.close()
      await Promise.all([parentLimits, childLimits].map((limits) => limits[Symbol.asyncDispose]()))
    },
  }
}
