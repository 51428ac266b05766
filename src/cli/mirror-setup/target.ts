/** Where the mirror is and what it reaches: as the agent of this host says, unless options say otherwise. */
import { readFile } from 'node:fs/promises'
import { formatBytes, parseListen } from '../../core/config/units.ts'
import { DarnerError, isDarnerError } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import type { CommandContext } from '../context.ts'
import { text, texts } from '../option-values.ts'
import { checkedName, type SetupTarget, type SetupUpstream } from './plan.ts'

const DEFAULT_MIRROR = '127.0.0.1:65001'
const DOCKER_HUB: SetupUpstream = { name: 'docker.io', url: 'https://registry-1.docker.io' }

/** `GET /v1/mirror` of the agent. */
export interface MirrorState {
  readonly state: 'on' | 'off' | 'failed'
  readonly address?: string
  readonly scheme?: 'http' | 'https'
  /** The file with the authority that the mirror's clients have to trust. */
  readonly authority?: string
  readonly connect?: 'off' | 'tunnel' | 'intercept'
  readonly upstreams?: readonly SetupUpstream[]
  readonly requests?: number
  readonly failures?: number
  readonly bytes?: number
  /** Blobs asked for, and how many of them this host held whole. */
  readonly blobs?: number
  readonly held?: number
  readonly trouble?: string
}

/** The same for people, a fact a line. */
export function mirrorLines(state: MirrorState): string[] {
  if (state.state === 'failed') return [`mirror     not serving: ${state.trouble ?? 'unknown'}`]
  if (state.state === 'off') return ['mirror     off']
  const { scheme = 'http', address, authority, connect = 'off', upstreams = [] } = state
  return [
    `mirror     ${scheme}://${address}`,
    ...(authority === undefined ? [] : [`authority  ${authority}`]),
    ...(connect === 'off' ? [] : [`connect    ${connect}`]),
    ...upstreams.map(({ name, url }, at) => `upstream   ${name} ${url}${at === 0 ? ' (default)' : ''}`),
    `served     ${state.requests} requests, ${state.failures} failed, ${formatBytes(state.bytes ?? 0)}; ${state.held} of ${state.blobs} blobs were here`,
  ]
}

export async function mirrorState(context: CommandContext): Promise<MirrorState> {
  return await new AgentClient({ socket: context.socket }).json<MirrorState>('GET', '/v1/mirror', {
    signal: context.signal,
  })
}

/** Throws BAD_ARGUMENT. An agent that isn't there is no failure: a host may be set up before it. */
export async function setupTarget(
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<SetupTarget> {
  const given = texts(options, 'upstream').map(readUpstream)
  const named = text(options, 'mirror')
  const state = await mirrorState(context).catch((error: unknown) => {
    if (!isDarnerError(error, 'AGENT_UNREACHABLE', 'NOT_FOUND')) throw error
    return undefined
  })
  const address = state?.address
  const isAgents = named === undefined || (address !== undefined && reachable(named) === reachable(address))
  const agents = isAgents ? state : undefined
  const authority = agents?.authority
  const known = state?.upstreams ?? []
  const upstreams = given.length > 0 ? given : known.length > 0 ? known : [DOCKER_HUB]
  return {
    mirror: reachable(named ?? address ?? DEFAULT_MIRROR),
    scheme: agents?.scheme ?? 'http',
    authority: authority === undefined ? undefined : { path: authority, pem: await readFile(authority, 'utf8') },
    upstreams: upstreams.map(({ name, url }) => ({ name: checkedName(name), url })),
    chosen: given.length > 0,
    guessed: state === undefined && (named === undefined || given.length === 0),
    troubles: agents === undefined ? [] : troublesOf(agents, given),
    root: rootOf(options),
  }
}

/** What would leave clients of the agent's mirror without it, or with another registry's images. */
function troublesOf({ state, trouble, upstreams = [] }: MirrorState, wanted: readonly SetupUpstream[]): DarnerError[] {
  if (state !== 'on')
    return [
      new DarnerError('HOST_UNABLE', `the agent's mirror does not serve: ${trouble ?? 'it is off'}`, {
        way: 'start the agent with --mirror IP:PORT, or name another mirror with --mirror',
      }),
    ]
  const names = upstreams.map(({ name }) => name)
  return wanted
    .filter(({ name }) => !names.includes(name.toLowerCase()))
    .map(
      ({ name, url }) =>
        new DarnerError('NOT_FOUND', `the agent's mirror does not reach ${name}, but ${names.join(', ')}`, {
          way: `start the agent with --upstream ${name}=${url} first, or leave ${name} out here`,
        }),
    )
}

/** What stands for `/`. */
export function rootOf(options: Readonly<Record<string, unknown>>): string {
  return text(options, 'root') ?? '/'
}

function readUpstream(given: string): SetupUpstream {
  const at = given.indexOf('=')
  const name = at < 0 ? given : given.slice(0, at)
  const url = at < 0 ? (name === 'docker.io' ? DOCKER_HUB.url : `https://${name}`) : given.slice(at + 1)
  if (!/^https?:\/\/[^\s"'\\]+$/.test(url) || !URL.canParse(url))
    throw new DarnerError('BAD_ARGUMENT', `upstream ${JSON.stringify(given.slice(0, 160))} is not NAME or NAME=URL`)
  return { name: checkedName(name), url }
}

/** Where a client of this host reaches what listens at `address`. Throws BAD_ARGUMENT. */
export function reachable(address: string): string {
  const listen = parseListen(address)
  if (listen === undefined || listen.port === 0)
    throw new DarnerError('BAD_ARGUMENT', `mirror ${JSON.stringify(address.slice(0, 80))} is not IP:PORT`)
  return address.replace(/^0\.0\.0\.0:/, '127.0.0.1:').replace(/^\[::\]:/, '[::1]:')
}
