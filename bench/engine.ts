/**
 * Containers: create + start + wait of `true` through the docker socket, with and without a network, beside podman and beside
 * conmon and crun alone; many at once; and how soon an image is ready, beside containerd. All in the same run, darner as it is
 * installed.
 */

import { spawnSync } from 'node:child_process'
import { TOOLS } from '../deploy/setup.ts'
import { aDockerAgent, type DockerAgent } from '../test/fixtures/clients/a-docker-agent.ts'
import { isOnStage } from '../test/fixtures/host/a-stage.ts'
import { builtDarner } from './built.ts'
import { conmonAlone } from './engine/alone.ts'
import { ask, mediansInTurn } from './engine/client.ts'
import { crowd } from './engine/crowd.ts'
import { LAYERS, prepareLayers, USUAL_LAYERS } from './engine/layers.ts'
import { aPodman, NETWORKS, type Network, type Podman } from './engine/podman.ts'
import { FORMATS, ready } from './engine/ready.ts'
import type { Figure } from './figure.ts'
import { type BenchOptions, numberOf, oneOf, readOptions } from './options.ts'
import { onAStage } from './stage/on-a-stage.ts'

export const tools = TOOLS
export const about = 'containers through the docker socket, beside podman, conmon and containerd; needs root'

const RUNS = 20

export const parts = ['once', 'crowd', 'ready']
export const options = {
  rounds: { value: 'N', summary: 'of each pull of ready', default: '3' },
  layer: { value: 'NAME', summary: 'what ready pulls: gzip, zstd, or gib, a GiB of files; without it the first two' },
  format: { value: 'NAME', summary: 'how ready unpacks: erofs or directory; without it both' },
} as const satisfies BenchOptions

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values, parts: chosen } = readOptions(options, args, parts)
  const rounds = numberOf('rounds', values.rounds, { least: 1, whole: true })
  const layers = values.layer === undefined ? USUAL_LAYERS : [oneOf('layer', values.layer, LAYERS)]
  const formats = values.format === undefined ? FORMATS : [oneOf('format', values.format, FORMATS)]
  const wanted = (part: string) => chosen.length === 0 || chosen.includes(part)
  if (!isOnStage()) {
    if (wanted('ready')) await prepareLayers(signal)
    return await onAStage('engine', args, signal)
  }
  process.env.DARNER_MAIN = (await builtDarner()).main
  const figures: Figure[] = []
  if (wanted('once')) figures.push(...(await single(signal)))
  if (wanted('crowd')) figures.push(...(await crowd(signal)))
  if (wanted('ready')) {
    figures.push(...(await ready(signal, { rounds, layers, formats })))
  }
  return figures
}

/** One container after the other; in turns with podman where it can run here. */
async function single(signal: AbortSignal): Promise<Figure[]> {
  // the pool of ready namespaces as an agent has it by default
  await using docker = await aDockerAgent(['--network-ready', '2'])
  await using podman = await aPodman(docker.image)
  const alone = await conmonAlone(RUNS, signal)
  const { launcher } = await builtDarner()
  const figures: Figure[] = []
  for (const network of NETWORKS) {
    const waits: number[] = []
    const byApi = async () => waits.push(await once(docker, network))
    const beside = await besidePodman(podman, network, byApi)
    if (network === 'none') {
      const waited = waits.sort((a, b) => a - b)[waits.length >> 1] ?? 0
      figures.push({
        bench: 'engine',
        figure: `create, start, wait of true, network none: ${waited.toFixed(0)} ms, beyond conmon and crun alone, ${alone.toFixed(0)} ms`,
        value: waited - alone,
        unit: 'ms',
        goal: '<=30',
      })
    }
    figures.push({
      ...{ bench: 'engine', figure: `create, start, wait, remove of true, network ${network}, by the API` },
      ...beside,
      ...(beside.anchor !== undefined && network === 'bridge' ? { goal: '<=0.5' } : {}),
    })
    // as people type it, a process of its own
    const flags = ['--rm', '--network', network, '--socket', docker.process().socket]
    const command = () => {
      const { status, stderr } = spawnSync(launcher, ['run', ...flags, 'busybox', 'true'])
      if (status !== 0) throw new Error(`darner run: ${status}: ${stderr}`)
    }
    figures.push({
      ...{ bench: 'engine', figure: `darner run, network ${network}, as a command` },
      ...(await besidePodman(podman, network, command)),
      goal: '<=0.8',
    })
  }
  return figures
}

async function besidePodman(
  podman: Podman,
  network: Network,
  work: () => Promise<unknown> | unknown,
): Promise<Pick<Figure, 'value' | 'unit' | 'anchor' | 'anchorValue'>> {
  const theirs = podman.can(network) ? [() => podman.run(network)] : []
  const [value = Number.NaN, anchorValue] = await mediansInTurn(RUNS, [work, ...theirs])
  if (anchorValue === undefined) return { value, unit: 'ms' }
  return { value, unit: 'ms', anchor: `podman run, network ${network}, in turns`, anchorValue }
}

/** Milliseconds until the wait is over; the container is removed after that. */
async function once(docker: DockerAgent, network: string): Promise<number> {
  const from = performance.now()
  const { Id } = (await post(docker, '/containers/create', {
    Image: 'busybox',
    Cmd: ['true'],
    HostConfig: { NetworkMode: network },
  })) as { Id: string }
  await post(docker, `/containers/${Id}/start`, undefined)
  await post(docker, `/containers/${Id}/wait`, undefined)
  const waited = performance.now() - from
  await ask(docker.socket, 'DELETE', `/containers/${Id}`)
  return waited
}

const post = (docker: DockerAgent, path: string, body: unknown) => ask(docker.socket, 'POST', path, body)
