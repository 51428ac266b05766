/** Whether a client that runs goes by the configuration that is written: a daemon reads its own when it starts. */
import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, isDarnerError, systemCode } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import type { CommandContext } from '../context.ts'
import type { ClientName } from './client-names.ts'
import type { SetupTarget } from './plan.ts'

/** What was seen, for people. Throws HOST_UNABLE for a client that runs by something older. */
export async function takenUp(client: ClientName, target: SetupTarget, context: CommandContext): Promise<string> {
  if (client === 'docker') return await byDocker(target, context)
  if (client === 'containerd') return await byContainerd(join(target.root, '/etc/containerd/config.toml'))
  return client === 'crio'
    ? 'cri-o reads the file when it starts and when it is reloaded'
    : 'it reads the file at each command'
}

async function byDocker({ scheme, mirror }: SetupTarget, { env, signal }: CommandContext): Promise<string> {
  const socket = /^unix:\/\/(\/.+)$/.exec(env.DOCKER_HOST ?? '')?.[1] ?? '/var/run/docker.sock'
  const url = `${scheme}://${mirror}`
  let mirrors: readonly string[]
  try {
    const info = await new AgentClient({ socket }).json<DockerInfo>('GET', '/info', { signal })
    mirrors = info.RegistryConfig?.Mirrors ?? []
  } catch (error) {
    if (isDarnerError(error, 'AGENT_UNREACHABLE'))
      return `skipped: docker does not answer at ${socket}; it reads the file when it starts`
    throw error
  }
  if (mirrors.some((one) => one.replace(/\/+$/, '') === url)) return `docker at ${socket} has ${url}`
  throw new DarnerError('HOST_UNABLE', `docker at ${socket} has the mirrors ${mirrors.join(', ') || 'none'}`, {
    way: 'systemctl reload docker (or SIGHUP to dockerd)',
  })
}

/** docker's Engine API, `GET /info`. */
interface DockerInfo {
  readonly RegistryConfig?: { readonly Mirrors?: readonly string[] | null } | null
}

/** Nothing shows which configuration a running containerd has read, except that it began after the file was written. */
async function byContainerd(config: string): Promise<string> {
  const began = await beganMs('containerd')
  if (began === undefined) return 'skipped: containerd is not running; it reads the file when it starts'
  // /proc/stat has the boot time in seconds
  if ((await stat(config)).mtimeMs <= began + 1_000) return 'containerd was started after it was written'
  throw new DarnerError('HOST_UNABLE', `containerd was started before ${config} was written`, {
    way: 'systemctl restart containerd',
  })
}

/** When the oldest process of this name and with our file system began, in milliseconds since the epoch (proc(5), "starttime", in 1/100 s since boot). */
async function beganMs(name: string): Promise<number | undefined> {
  const boot = Number(/^btime (\d+)$/m.exec(await readFile('/proc/stat', 'utf8'))?.[1])
  const own = await readlink('/proc/self/ns/mnt')
  const found: number[] = []
  for (const pid of (await readdir('/proc')).filter((one) => /^\d+$/.test(one))) {
    try {
      const line = await readFile(`/proc/${pid}/stat`, 'utf8')
      const [comm, rest] = [line.slice(line.indexOf('(') + 1, line.lastIndexOf(')')), line.lastIndexOf(')') + 2]
      // those of containers have files of their own
      if (comm === name && (await readlink(`/proc/${pid}/ns/mnt`)) === own)
        found.push(boot * 1000 + Number(line.slice(rest).split(' ')[19]) * 10)
    } catch (error) {
      if (!['ENOENT', 'ESRCH', 'EACCES'].includes(systemCode(error) ?? '')) throw error // it has ended, or isn't ours to look at
    }
  }
  return found.length === 0 ? undefined : Math.min(...found)
}
