/** podman of its own, to run containers beside darner in the same run. */
import { spawnSync } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { aDir } from '../../test/fixtures/host/a-dir.ts'

/** Networks by the names that docker gives them. */
export const NETWORKS = ['none', 'bridge'] as const

export type Network = (typeof NETWORKS)[number]

export interface Podman extends AsyncDisposable {
  /** Whether it can run a container on that network here. */
  can(network: Network): boolean
  /** Runs `true` and removes the container. */
  run(network: Network): void
}

/** Needs a stage. One that can do nothing where it isn't installed or can't pull `image`, which comes by plain HTTP. */
export async function aPodman(image: string): Promise<Podman> {
  const { path: root } = await aDir()
  const shared = [
    ...['--root', join(root, 'root'), '--runroot', join(root, 'run'), '--runtime', 'crun'],
    ...['--cgroup-manager', 'cgroupfs', '--events-backend', 'file'],
  ]
  const podman = (...args: string[]) => spawnSync('podman', [...shared, ...args], { stdio: 'ignore' }).status
  const run = (network: Network) =>
    podman('run', '--rm', '--network', network === 'bridge' ? 'podman' : 'none', image, 'true')
  const pulled = podman('pull', '--tls-verify=false', image) === 0
  const able = new Set(NETWORKS.filter((network) => pulled && run(network) === 0))
  return {
    can: (network) => able.has(network),
    run(network) {
      const status = run(network)
      if (status !== 0) throw new Error(`podman run, network ${network}: ${status}`)
    },
    async [Symbol.asyncDispose]() {
      podman('system', 'reset', '-f')
      await rm(root, { recursive: true, force: true }).catch(() => {}) // mounts of podman's go with the stage
    },
  }
}
