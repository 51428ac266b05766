import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'
import { type Random, seededRandom, systemClock } from '../../src/core/clock.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { aPort } from '../fixtures/host/a-port.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import {
  type AgentProcess,
  aDaemon,
  anAgentProcess,
  aProgram,
  type Daemon,
  runDarner,
} from '../fixtures/swarm/a-daemon.ts'
import { aLink, type Link } from '../fixtures/swarm/a-link.ts'
import { askAdmin } from '../fixtures/swarm/ask-admin.ts'
import type { LiarOrders } from '../fixtures/swarm/liar.ts'

const MIB = 1024 * 1024
/** DARNER_CHAOS_SECONDS=60 for the long run; DARNER_CHAOS_SEED repeats one. */
const SECONDS = Number(process.env.DARNER_CHAOS_SECONDS ?? 20)
const SEED = Number(process.env.DARNER_CHAOS_SEED ?? 20_261_124)
const HONEST = ['a', 'b', 'c', 'd']
const LIAR = fileURLToPath(new URL('../fixtures/swarm/liar.ts', import.meta.url))

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
  this.timeout(SECONDS * 1000 + 240_000)

  it(`of ${SECONDS} s: liars, kills and cut links; every honest host ends with the right bytes (seed ${SEED})`, async () => {
    const random = seededRandom(SEED)
    await using dir = await aDir()
    await using origin = await anOrigin()
    const blobs: Blob[] = []
    for (let number = 0; number < Math.max(3, SECONDS / 4); number++) {
      const body = randomBody(SEED + number, MIB + Math.floor(random() * 15 * MIB))
      origin.at(`/${number}`, [{ body, cutAfter: Math.floor(body.byteLength * random()) }, { body }])
      blobs.push({ url: `${origin.url}/${number}`, digest: digestOf(body), bytes: body.byteLength })
    }
    const port = await aPort()
    await using supernode = new Revived(() => aSupernode(dir.path, `127.0.0.1:${port}`))
    const { multiaddrs } = JSON.parse((await supernode.now).line) as { multiaddrs: string[] }
    const [, id = ''] = /\/p2p\/(\w+)/.exec(multiaddrs[0] ?? '') ?? []
    await using liars = await theLiars(dir.path, multiaddrs, blobs)
    await using links = new AsyncDisposableStack()
    const victims: Victim[] = [{ name: 'supernode', daemon: supernode, link: undefined }]
    await using _agents = {
      [Symbol.asyncDispose]: async () =>
        void (await Promise.all(victims.map((one) => one.daemon[Symbol.asyncDispose]()))),
    }
    const agents = await Promise.all(
      HONEST.map(async (name) => {
        const link = links.use(await aLink(() => port))
        const address = `/ip4/127.0.0.1/tcp/${link.port}/p2p/${id}`
        const agent = new Revived(() => anAgentProcess(dir.path, name, address, ['--download-rate', '6MiB/s']))
        victims.push({ name, daemon: agent, link })
        await agent.now
        return agent
      }),
    )
    const over = AbortSignal.timeout(SECONDS * 1000)
    const outcomes: Outcome[] = []
    const work = agents.map((agent, number) => fetchAll(agent, `${dir.path}/${HONEST[number]}`, blobs, over, outcomes))
    const deeds = await mischief(victims, random, over)
    await Promise.all(work)
    await supernode.now
    const peers = await askAdmin<{ expelled: { peer: string; kind: string }[] }>(dir.path, '/v1/peers')
    for (const { peer, kind } of peers.expelled)
      assert.ok(liars.ids.includes(peer), `${peer} is no liar and was ${kind}`)
    const troubles = outcomes.flatMap(({ trouble }) => (trouble === undefined ? [] : [trouble.trim()]))
    for (const trouble of troubles) assert.match(trouble, /^darner: \S/, 'a failure is one clear line')
    assert.equal(outcomes.length - troubles.length, agents.length * blobs.length, 'each host has each blob in the end')
    console.log(`      deeds: ${deeds.join(', ')}`)
    console.log(`      expelled: ${peers.expelled.length}; clear errors on the way: ${troubles.length}`)
    for (const trouble of troubles) console.log(`      ${trouble.slice(0, 160)}`)
    const total = blobs.reduce((sum, { bytes }) => sum + bytes, 0)
    const record = await reasons(dir.path, id, blobs)
    const recorded = record.reduce((sum, [, bytes]) => sum + bytes, 0)
    const copies = (bytes: number) => (bytes / total).toFixed(2)
    // what the origin sent into a connection that was killed, nobody has read
    console.log(
      `      copies of ${blobs.length} blobs: ${copies(recorded)} on record, ${copies(origin.sent)} sent by the origin`,
    )
    for (const [reason, bytes] of record) console.log(`      ${copies(bytes)}: ${reason}`)
  })
})

interface Victim {
  readonly name: string
  readonly daemon: Revived<Daemon>
  /** Its link to the supernode. */
  readonly link: Link | undefined
}

/** Why which share of the bytes was read, most first: `supernode: first read`. */
async function reasons(directory: string, supernode: string, blobs: readonly Blob[]): Promise<[string, number][]> {
  const found = new Map<string, number>()
  for (const { digest } of blobs) {
    const { reads } = await askAdmin<{ reads: { peer: string; reason: string; bytes: number }[] }>(
      directory,
      `/v1/why/${digest}`,
    )
    for (const { peer, reason, bytes } of reads) {
      const key = `${peer === supernode ? 'the supernode' : 'an agent'}: ${reason.replace(/\/ip4\/\S+/g, '…').slice(0, 140)}`
      found.set(key, (found.get(key) ?? 0) + bytes)
    }
  }
  return [...found].sort((one, other) => other[1] - one[1])
}

async function aSupernode(directory: string, address: string): Promise<Daemon> {
  const lane = ['--lane-listen', '127.0.0.1:0', '--listen', '127.0.0.1:0', '--p2p-listen', address]
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
async function mischief(victims: readonly Victim[], random: Random, over: AbortSignal): Promise<string[]> {
  const done: string[] = []
  const ever = AbortSignal.timeout(600_000)
  const under: Promise<void>[] = []
  const busy = new Set<Victim>()
  while (!over.aborted) {
    await systemClock.sleep(300 + random() * 1200, { signal: ever })
    const victim = victims[Math.floor(random() * victims.length)]
    const [dice, ms] = [random(), 200 + random() * 2800]
    if (victim === undefined || busy.has(victim) || busy.size >= 3) continue
    const { name, daemon, link } = victim
    busy.add(victim)
    const deed = (what: string, doing: Promise<void>) => {
      done.push(`${what} ${name}`)
      under.push(doing.finally(() => busy.delete(victim)))
    }
    if (dice < 0.35) deed('kill', daemon.kill(ms, ever))
    else if (dice < 0.6 || link === undefined) deed('freeze', daemon.freeze(ms, ever))
    else deed('cut off', cutOff(link, dice < 0.8 ? 'silent' : 'reset', ms, ever))
  }
  await Promise.all(under)
  return done
}

async function cutOff(link: Link, how: 'silent' | 'reset', ms: number, signal: AbortSignal): Promise<void> {
  link.cut(how)
  await systemClock.sleep(ms, { signal }).finally(() => link.heal())
}
