/** What a host pays for a supernode that is away: a pull of 2 MB and a get of 6 bytes, beside the same ones with the supernode there. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { PeerStatus } from '../../src/api/peer-status.ts'
import { AgentClient } from '../../src/cli/client.ts'
import { aDir } from '../../test/fixtures/host/a-dir.ts'
import { anImage, pushImage } from '../../test/fixtures/images/an-image.ts'
import { aRegistry } from '../../test/fixtures/origin/a-registry.ts'
import { anOrigin } from '../../test/fixtures/origin/an-origin.ts'
import { anAgentProcess, aSupernodeProcess } from '../../test/fixtures/swarm/a-daemon.ts'
import { builtDarner } from '../built.ts'
import type { Figure } from '../figure.ts'
import { median } from '../median.ts'

const LAYER_BYTES = 1_000_000
const LOOK_MS = 20
const SUPERNODE = ['--open', '--allow-private-origins']

/** Needs a stage with a network. `rounds` of each; the first command after the loss stands for itself, once a round. */
export async function supernodeAway(rounds: number, signal: AbortSignal): Promise<Figure[]> {
  const { launcher } = await builtDarner()
  await using dir = await aDir()
  await using registry = await aRegistry()
  await using origin = await anOrigin()
  let supernode = await aSupernodeProcess(dir.path, SUPERNODE)
  try {
    const agentFlags = ['--engine', '--allow-private-origins', '--network-ready', '0']
    await using agent = await anAgentProcess(dir.path, 'agent', supernode.line, agentFlags)
    const client = new AgentClient({ socket: agent.socket })
    const connected = async (wanted: boolean) => {
      while ((await client.json<PeerStatus>('GET', '/v1/peer', { signal })).supernode.connected !== wanted)
        await sleep(LOOK_MS, undefined, { signal })
    }
    const darner = async (...words: string[]) => {
      const from = performance.now()
      await promisify(execFile)(launcher, [...words, '--socket', agent.socket], { signal })
      return performance.now() - from
    }
    let number = 0
    const pull = async () => {
      const image = anImage({ seed: ++number, layers: [{ bytes: LAYER_BYTES }, { bytes: LAYER_BYTES }] })
      await pushImage(registry, 'bench/away', String(number), image)
      return await darner('pull', '--plain-http', `${registry.host}/bench/away:${number}`)
    }
    const get = async () => {
      const path = `/six-${++number}`
      origin.at(path, { body: randomBytes(6) })
      return await darner('get', `${origin.url}${path}`, '-o', join(dir.path, 'out'))
    }
    const times: Record<'pull' | 'get', Record<'there' | 'first' | 'away', number[]>> = {
      pull: { there: [], first: [], away: [] },
      get: { there: [], first: [], away: [] },
    }
    const works = { pull, get }
    for (let round = 0; round < rounds; round++) {
      for (const what of ['pull', 'get'] as const) {
        signal.throwIfAborted()
        // a supernode that has just started has its code still to load
        await works[what]()
        times[what].there.push(await works[what]())
        await supernode.kill('SIGKILL')
        await connected(false)
        times[what].first.push(await works[what]())
        times[what].away.push(await works[what]())
        supernode = await aSupernodeProcess(dir.path, [...SUPERNODE, '--p2p-listen', tcpOf(supernode.line)])
        await connected(true)
      }
    }
    return (['pull', 'get'] as const).flatMap((what) => figures(what, times[what]))
  } finally {
    await supernode[Symbol.asyncDispose]()
  }
}

function figures(what: 'pull' | 'get', times: Record<'there' | 'first' | 'away', number[]>): Figure[] {
  const name = what === 'pull' ? 'pull of 2 MB' : 'get of 6 bytes'
  const there = median(times.there)
  const beside = { bench: 'fixed', unit: 'ms', anchor: 'supernode there', anchorValue: there }
  return [
    { ...beside, figure: `${name}, supernode away`, value: median(times.away), goal: '<=1.2' },
    {
      ...{ bench: 'fixed', unit: 'ms', figure: `${name}, supernode just lost, beyond the same with it there` },
      value: Math.max(...times.first) - there,
      goal: '<=1000',
    },
  ]
}

/** `HOST:PORT` of a multiaddr over IPv4. */
function tcpOf(multiaddr: string): string {
  const [, host, port] = /^\/ip4\/([^/]+)\/tcp\/(\d+)\//.exec(multiaddr) ?? []
  return `${host}:${port}`
}
