/** Containers: create + start + wait of `true` through the docker socket, with and without a network, beside podman in the same run; and many at once. */

import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TOOLS } from '../deploy/setup.ts'
import { aDocker, type Docker } from '../test/fixtures/a-docker.ts'
import { isOnStage } from '../test/fixtures/a-stage.ts'
import { ask, median } from './engine/client.ts'
import { crowd } from './engine/crowd.ts'
import type { Figure } from './figure.ts'
import { onAStage } from './stage/on-a-stage.ts'

export const tools = TOOLS
export const about = 'containers through the docker socket, beside podman; needs root'

const RUNS = 20

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  if (!isOnStage()) return await onAStage('engine', args, signal)
  if (args.includes('crowd')) return await crowd(signal)
  await using docker = await aDocker()
  const figures: Figure[] = []
  const podman = await podmanTimes(docker)
  for (const network of ['none', 'bridge'] as const) {
    const ms = await median(RUNS, () => once(docker, network))
    const anchor = podman.get(network)
    figures.push({
      bench: 'engine',
      figure: `create, start, wait of true, network ${network}, by the API`,
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
  figures.push(...(await crowd(signal)))
  return figures
}

async function once(docker: Docker, network: string): Promise<void> {
  const { Id } = (await post(docker, '/containers/create', {
    Image: 'busybox',
    Cmd: ['true'],
    HostConfig: { NetworkMode: network },
  })) as { Id: string }
  await post(docker, `/containers/${Id}/start`, undefined)
  await post(docker, `/containers/${Id}/wait`, undefined)
  await ask(docker.socket, 'DELETE', `/containers/${Id}`)
}

const post = (docker: Docker, path: string, body: unknown) => ask(docker.socket, 'POST', path, body)

/** podman's own times by network; none where it isn't installed or can't run here. */
async function podmanTimes(docker: Docker): Promise<Map<string, number>> {
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
