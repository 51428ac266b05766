/**
 * Containers: create + start + wait of `true` through the docker socket, with and without a network, beside podman and beside
 * conmon and crun alone; many at once; and how soon an image is ready, beside containerd. All in the same run, darner as it is
 * installed.
 */

import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TOOLS } from '../deploy/setup.ts'
import { aDockerAgent, type DockerAgent } from '../test/fixtures/a-docker-agent.ts'
import { isOnStage } from '../test/fixtures/a-stage.ts'
import { builtDarner } from './built.ts'
import { conmonAlone } from './engine/alone.ts'
import { ask, median } from './engine/client.ts'
import { crowd } from './engine/crowd.ts'
import { LAYERS, USUAL_LAYERS } from './engine/layers.ts'
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
  if (!isOnStage()) return await onAStage('engine', args, signal)
  process.env.DARNER_MAIN = (await builtDarner()).main
  const wanted = (part: string) => chosen.length === 0 || chosen.includes(part)
  const figures: Figure[] = []
  if (wanted('once')) figures.push(...(await single(signal)))
  if (wanted('crowd')) figures.push(...(await crowd(signal)))
  if (wanted('ready')) {
    figures.push(...(await ready(signal, { rounds, layers, formats })))
  }
  return figures
}

/** One container after the other. */
async function single(signal: AbortSignal): Promise<Figure[]> {
  // the pool of ready namespaces as an agent has it by default
  await using docker = await aDockerAgent(['--network-ready', '2'])
  const figures: Figure[] = []
  const podman = await podmanTimes(docker)
  const alone = await conmonAlone(RUNS, signal)
  for (const network of ['none', 'bridge'] as const) {
    const waits: number[] = []
    const ms = await median(RUNS, async () => waits.push(await once(docker, network)))
    const waited = waits.sort((a, b) => a - b)[waits.length >> 1] ?? 0
    const anchor = podman.get(network)
    const figure = `create, start, wait, remove of true, network ${network}, by the API`
    if (network === 'none') {
      figures.push({
        bench: 'engine',
        figure: `create, start, wait of true, network none: ${waited.toFixed(0)} ms, beyond conmon and crun alone, ${alone.toFixed(0)} ms`,
        value: waited - alone,
        unit: 'ms',
        goal: '<=30',
      })
    }
    figures.push({
      bench: 'engine',
      figure,
      value: ms,
      unit: 'ms',
      ...(anchor === undefined
        ? {}
        : {
            anchor: `podman run, network ${network}`,
            anchorValue: anchor,
            ...(network === 'bridge' ? { goal: '<=0.5' } : {}),
          }),
    })
  }
  figures.push(...(await command(docker, podman)))
  return figures
}

/** `darner run` as people type it, a process of its own. */
async function command(docker: DockerAgent, podman: ReadonlyMap<string, number>): Promise<Figure[]> {
  const { launcher } = await builtDarner()
  const figures: Figure[] = []
  for (const network of ['none', 'bridge'] as const) {
    const flags = ['--rm', '--network', network, '--socket', docker.process().socket]
    const ms = await median(RUNS, () => {
      const { status, stderr } = spawnSync(launcher, ['run', ...flags, 'busybox', 'true'])
      if (status !== 0) throw new Error(`darner run: ${status}: ${stderr}`)
    })
    const anchorValue = podman.get(network)
    if (anchorValue === undefined) continue
    const figure = `darner run, network ${network}, as a command`
    figures.push({
      bench: 'engine',
      figure,
      value: ms,
      unit: 'ms',
      anchor: `podman run, network ${network}`,
      anchorValue,
      goal: '<=0.8',
    })
  }
  return figures
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

/** podman's own times by network; none where it isn't installed or can't run here. */
async function podmanTimes(docker: DockerAgent): Promise<Map<string, number>> {
  const times = new Map<string, number>()
  const root = await mkdtemp(join(tmpdir(), 'darner-podman-'))
  const shared = [
    '--root',
    join(root, 'root'),
    '--runroot',
    join(root, 'run'),
    '--cgroup-manager',
    'cgroupfs',
    '--events-backend',
    'file',
    '--runtime',
    'crun',
  ]
  const podman = (args: readonly string[]) => spawnSync('podman', [...shared, ...args], { stdio: 'ignore' }).status
  try {
    if (podman(['pull', '--tls-verify=false', docker.image]) !== 0) return times
    for (const network of ['none', 'bridge']) {
      const runs = () =>
        podman(['run', '--rm', '--network', network === 'bridge' ? 'podman' : 'none', docker.image, 'true'])
      if (runs() === 0) times.set(network, await median(RUNS, runs))
    }
    return times
  } finally {
    podman(['system', 'reset', '-f'])
    await rm(root, { recursive: true, force: true }).catch(() => {}) // mounts of podman's go with the stage
  }
}
