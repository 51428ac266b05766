import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'
import { request } from 'undici'
import { type Random, seededRandom, systemClock } from '../../src/base/clock.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { type AgentProcess, aDaemon, anAgentProcess, aProgram, type Daemon, runDarner } from '../fixtures/a-daemon.ts'
import { aDir } from '../fixtures/a-dir.ts'
import { randomBody } from '../fixtures/an-image.ts'
import { anOrigin } from '../fixtures/an-origin.ts'
import type { LiarOrders } from '../fixtures/liar.ts'

const MIB = 1024 * 1024
/** DARNER_CHAOS_SECONDS=60 for the long run; DARNER_CHAOS_SEED repeats one. */
const SECONDS = Number(process.env.DARNER_CHAOS_SECONDS ?? 20)
const SEED = Number(process.env.DARNER_CHAOS_SEED ?? 20_261_124)
const HONEST = ['a', 'b', 'c', 'd']
const LIAR = fileURLToPath(new URL('../fixtures/liar.ts', import.meta.url))

interface Blob {
  readonly url: string
  readonly digest: Digest
  readonly bytes: number
}

/** Starts something again whenever it is gone, on the same data. */
class Revived<T extends Daemon> implements AsyncDisposable {
  readonly #start: () => Promise<T>
  #now: Promise<T>

  constructor(start: () => Promise<T>) {
    this.#start = start
    this.#now = start()
    this.#now.catch(() => {})
  }

  get now(): Promise<T> {
    return this.#now
  }

  /** kill -9, a pause, a new life. */
  async kill(pauseMs: number, signal: AbortSignal): Promise<void> {
    const old = await this.#now
    this.#now = (async () => {
      await old.kill('SIGKILL')
      await systemClock.sleep(pauseMs, { signal })
      return await this.#start()
    })()
    this.#now.catch(() => {})
    await this.#now
  }

  /** Silent for a while, as behind a cut link: connections stand, nothing comes. */
  async freeze(ms: number, signal: AbortSignal): Promise<void> {
    const { pid } = await this.#now
    process.kill(pid, 'SIGSTOP')
    await systemClock.sleep(ms, { signal }).finally(() => process.kill(pid, 'SIGCONT'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#now.catch(() => undefined))?.kill('SIGKILL')
  }
}

describe('chaos', function () {
  this.timeout(SECONDS * 1000 + 180_000)

  it(`of ${SECONDS} s: liars, kills and cut links; every honest host ends with the right bytes (seed ${SEED})`, async () => {
    const random = seededRandom(SEED)
    await using dir = await aDir()
    await using origin = await anOrigin()
    const blobs: Blob[] = []
    for (const [number, size] of [5, 12, 24].entries()) {
      const body = randomBody(SEED + number, size * MIB)
      origin.at(`/${number}`, [{ body, cutAfter: Math.floor(size * MIB * random()) }, { body }])
      blobs.push({ url: `${origin.url}/${number}`, digest: digestOf(body), bytes: body.byteLength })
    }
    const place = { address: '127.0.0.1:0' }
    await using supernode = new Revived(() => aSupernode(dir.path, place))
    const { line } = await supernode.now
    const { multiaddrs } = JSON.parse(line) as { multiaddrs: string[] }
    place.address =
      /\/ip4\/([\d.]+)\/tcp\/(\d+)/
        .exec(multiaddrs[0] ?? '')
        ?.slice(1, 3)
        .join(':') ?? ''
    await using liars = await theLiars(dir.path, multiaddrs, blobs)
    const agents = HONEST.map(
      (name) => new Revived(() => anAgentProcess(dir.path, name, multiaddrs[0] ?? '', ['--download-rate', '6MiB/s'])),
    )
    await using _agents = {
      [Symbol.asyncDispose]: async () => void (await Promise.all(agents.map((one) => one[Symbol.asyncDispose]()))),
    }
    await Promise.all(agents.map((one) => one.now))
    const over = AbortSignal.timeout(SECONDS * 1000)
    const outcomes: Outcome[] = []
    const work = agents.map((agent, number) => fetchAll(agent, `${dir.path}/${HONEST[number]}`, blobs, over, outcomes))
    const deeds = await mischief([supernode, ...agents], random, over)
    await Promise.all(work)
    const peers = await askSupernode<{ peers: { peer: string }[]; expelled: { peer: string; kind: string }[] }>(
      (await supernode.now).line,
      '/v1/peers',
    )
    for (const { peer, kind } of peers.expelled)
      assert.ok(liars.ids.includes(peer), `${peer} is no liar and was ${kind}`)
    const whole = outcomes.filter(({ trouble }) => trouble === undefined)
    for (const { trouble } of outcomes)
      if (trouble !== undefined) assert.match(trouble, /^darner: \S/, 'a failure is one clear line')
    assert.equal(whole.length, agents.length * blobs.length, 'each host has each blob in the end')
    const total = blobs.reduce((sum, { bytes }) => sum + bytes, 0)
    console.log(
      `      deeds: ${deeds.join(', ')}; clear errors on the way: ${outcomes.length - whole.length}; expelled: ${peers.expelled.length}`,
    )
    for (const { trouble } of outcomes) if (trouble !== undefined) console.log(`      ${trouble.trim().slice(0, 160)}`)
    console.log(`      copies read at the origin: ${(origin.sent / total).toFixed(2)}`)
    for (const { url, digest } of blobs) {
      const { reads } = await askSupernode<{ reads: { peer: string; reason: string; bytes: number }[] }>(
        (await supernode.now).line,
        `/v1/why/${digest}`,
      )
      for (const { reason, bytes } of reads)
        console.log(`      ${new URL(url).pathname}: ${(bytes / MIB).toFixed(1)} MiB, ${reason.slice(0, 100)}`)
    }
  })
})

async function aSupernode(directory: string, place: { address: string }): Promise<Daemon> {
  const lane = ['--lane-listen', '127.0.0.1:0', '--listen', '127.0.0.1:0', '--p2p-listen', place.address]
  return await aDaemon(['supernode', ...lane, '--data', join(directory, 'supernode'), '--open', '--json'])
}

async function theLiars(directory: string, supernode: readonly string[], blobs: readonly Blob[]) {
  const kinds = ['corrupter', 'accuser'] as const
  const started = await Promise.all(
    kinds.map(async (kind) => {
      const own = join(directory, kind)
      await mkdir(own)
      const orders: LiarOrders = { kind, directory: own, supernode, blobs }
      return await aProgram([LIAR, JSON.stringify(orders)])
    }),
  )
  return {
    ids: started.map(({ line }) => line.trim()),
    [Symbol.asyncDispose]: async () => void (await Promise.all(started.map((one) => one.kill('SIGKILL')))),
  }
}

interface Outcome {
  readonly trouble: string | undefined
}

/** Fetches each blob, again after each failure. Once the mischief is over, three more tries must do. */
async function fetchAll(
  agent: Revived<AgentProcess>,
  path: string,
  blobs: readonly Blob[],
  over: AbortSignal,
  outcomes: Outcome[],
): Promise<void> {
  for (const [number, { url, digest }] of blobs.entries()) {
    for (let late = 0; late < 3; ) {
      const { socket } = await agent.now
      const out = `${path}-${number}.out`
      const flags = ['--digest', digest, '-q', '--timeout', '60s', '--socket', socket]
      const done = await runDarner(['get', url, '-o', out, ...flags])
      if (done.code === 0) {
        const seen = createHash('sha256')
          .update(await readFile(out))
          .digest('hex')
        assert.equal(`sha256:${seen}`, digest)
        outcomes.push({ trouble: undefined })
        break
      }
      outcomes.push({ trouble: done.stderr })
      if (over.aborted) late++
    }
  }
}

/** One deed after the other, until it is over; then all run again. Returns what was done. */
async function mischief(victims: readonly Revived<Daemon>[], random: Random, over: AbortSignal): Promise<string[]> {
  const done: string[] = []
  const ever = AbortSignal.timeout(600_000)
  const under: Promise<void>[] = []
  const busy = new Set<Revived<Daemon>>()
  while (!over.aborted) {
    await systemClock.sleep(300 + random() * 1200, { signal: ever })
    const at = Math.floor(random() * victims.length)
    const victim = victims[at]
    const [dice, ms] = [random(), 200 + random() * 2800]
    if (victim === undefined || busy.has(victim) || busy.size >= 3) continue
    const name = at === 0 ? 'supernode' : HONEST[at - 1]
    busy.add(victim)
    done.push(`${dice < 0.5 ? 'kill' : 'freeze'} ${name}`)
    const deed = dice < 0.5 ? victim.kill(ms, ever) : victim.freeze(ms, ever)
    under.push(deed.finally(() => busy.delete(victim)))
  }
  await Promise.all(under)
  return done
}

async function askSupernode<T>(line: string, path: string): Promise<T> {
  const { http } = JSON.parse(line) as { http: string }
  const answer = await request(`${http}${path}`)
  return (await answer.body.json()) as T
}
