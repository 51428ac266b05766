/** Names of things on this host, asked of the agent. What it doesn't answer is left out, without a word. */
import type { PeerStatus } from '../../api/peer-status.ts'
import { formatBytes } from '../../core/config/units.ts'
import { AgentClient } from '../client.ts'
import { DockerClient } from '../docker-client.ts'
import type { NameKind } from '../rows/shape.ts'
import type { Offer } from './wanted.ts'

/** A person waits meanwhile. */
const DEADLINE_MS = 1000

type Ask = (clients: { docker: DockerClient; agent: AgentClient; signal: AbortSignal }) => Promise<Offer[]>

/** Those of all `kinds`, each once. */
export async function namesOf(
  kinds: readonly NameKind[],
  { socket, signal: ending }: { socket: string; signal: AbortSignal },
): Promise<Offer[]> {
  const signal = AbortSignal.any([ending, AbortSignal.timeout(DEADLINE_MS)])
  const clients = { docker: new DockerClient({ socket }), agent: new AgentClient({ socket }), signal }
  const found = await Promise.allSettled(kinds.map((kind) => ASKS[kind](clients)))
  const offers = found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
  return [...new Map(offers.map((offer) => [offer.word, offer])).values()]
}

interface Container {
  readonly Names: readonly string[]
  readonly Image: string
  readonly State: string
}

const containers =
  (fits: (state: string) => boolean): Ask =>
  async ({ docker, signal }) => {
    const all = await docker.json<Container[]>('GET', '/containers/json', { query: { all: true }, signal })
    return all
      .filter(({ State }) => fits(State))
      .map(({ Names, Image, State }) => ({ word: (Names[0] ?? '').slice(1), summary: `${Image}, ${State}` }))
  }

const ASKS: Readonly<Record<NameKind, Ask>> = {
  container: containers(() => true),
  running: containers((state) => state === 'running' || state === 'restarting'),
  paused: containers((state) => state === 'paused'),
  stopped: containers((state) => state !== 'running' && state !== 'paused'),
  image: async ({ docker, signal }) => {
    const all = await docker.json<{ RepoTags: string[] | null }[]>('GET', '/images/json', { signal })
    return all.flatMap(({ RepoTags }) => (RepoTags ?? []).map((word) => ({ word, summary: 'image' })))
  },
  network: async ({ docker, signal }) => {
    const all = await docker.json<{ Name: string; Driver: string }[]>('GET', '/networks', { signal })
    return all.map(({ Name, Driver }) => ({ word: Name, summary: `${Driver} network` }))
  },
  volume: async ({ docker, signal }) => {
    const { Volumes } = await docker.json<{ Volumes: { Name: string }[] | null }>('GET', '/volumes', { signal })
    return (Volumes ?? []).map(({ Name }) => ({ word: Name, summary: 'volume' }))
  },
  blob: async ({ agent, signal }) => {
    const { tasks } = await agent.json<PeerStatus>('GET', '/v1/peer', { signal })
    return tasks.map(({ task, bytes, complete }) => ({
      word: task,
      summary: `${formatBytes(bytes)}${complete ? '' : ', half done'}`,
    }))
  },
}
