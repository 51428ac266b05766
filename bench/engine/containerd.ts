/** containerd of its own, to pull beside darner in the same run. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)
const START_TRIES = 200
const START_PAUSE_MS = 50

export interface Containerd extends AsyncDisposable {
  /** Pulls over plain HTTP and unpacks with overlayfs, as it does by default. */
  pull(reference: string): Promise<void>
}

/** Needs a stage. Its files are below `directory`. */
export async function aContainerd(directory: string): Promise<Containerd> {
  const base = join(directory, 'containerd')
  const socket = join(base, 'containerd.sock')
  await mkdir(base)
  const config = join(base, 'config.toml')
  await writeFile(
    config,
    `version = 2
root = "${base}/root"
state = "${base}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${socket}"
`,
  )
  const daemon = spawn('containerd', ['-c', config], { stdio: 'ignore' })
  const ctr = (...args: string[]) => run('ctr', ['-a', socket, ...args])
  for (let tries = 1; ; tries++) {
    try {
      await ctr('version')
      break
    } catch (error) {
      if (tries === START_TRIES || daemon.exitCode !== null) throw error
      await sleep(START_PAUSE_MS)
    }
  }
  return {
    async pull(reference) {
      await ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', reference)
    },
    async [Symbol.asyncDispose]() {
      if (daemon.exitCode !== null) return
      const gone = once(daemon, 'exit')
      daemon.kill('SIGTERM')
      await gone
    },
  }
}
