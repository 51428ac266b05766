/** Containers: create + start + wait of `true` through the docker socket, with and without a network, beside podman in the same run. */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { aDocker, type Docker } from '../test/fixtures/a-docker.ts'
import { isOnStage } from '../test/fixtures/a-stage.ts'
import type { Figure } from './figure.ts'
import { onAStage } from './stage/on-a-stage.ts'

export const about = 'containers through the docker socket, beside podman; needs root'

const RUNS = 20
const LISTED = 50

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  if (!isOnStage()) return await onAStage('engine', args, signal)
  await using docker = await aDocker()
  const figures: Figure[] = []
  const podman = await podmanTimes(docker)
  for (const network of ['none', 'bridge'] as const) {
    const ms = await median(() => once(docker, network))
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
  for (let at = 0; at < LISTED; at++)
    await post(docker, '/containers/create', { Image: 'busybox', HostConfig: { NetworkMode: 'none' } })
  figures.push({
    bench: 'engine',
    figure: `list of ${LISTED} containers`,
    value: await median(() => ask(docker, 'GET', '/containers/json?all=1')),
    unit: 'ms',
  })
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
  await ask(docker, 'DELETE', `/containers/${Id}`)
}

const post = (docker: Docker, path: string, body: unknown) => ask(docker, 'POST', path, body)

function ask(docker: Docker, method: string, path: string, body?: unknown): Promise<unknown> {
  const text = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        socketPath: docker.socket,
        method,
        path,
        headers: text === undefined ? {} : { 'content-type': 'application/json' },
      },
      (answer) => {
        let said = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          said += chunk
        })
        answer.once('end', () => {
          if ((answer.statusCode ?? 500) >= 400) reject(new Error(`${method} ${path}: ${answer.statusCode} ${said}`))
          else resolve(said === '' ? undefined : JSON.parse(said))
        })
      },
    )
    asked.once('error', reject).end(text)
  })
}

async function median(work: () => Promise<unknown> | unknown): Promise<number> {
  await work()
  const times: number[] = []
  for (let at = 0; at < RUNS; at++) {
    const from = performance.now()
    await work()
    times.push(performance.now() - from)
  }
  return times.sort((a, b) => a - b)[RUNS >> 1] ?? 0
}

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
      if (runs() === 0) times.set(network, await median(runs))
    }
    return times
  } finally {
    podman(['system', 'reset', '-f'])
    await rm(root, { recursive: true, force: true }).catch(() => {}) // mounts of podman's go with the stage
  }
}
