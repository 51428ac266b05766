/** `darner info`: what this engine is, has and can do. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { printValue } from '../format/list.ts'
import { binarySize } from '../format/words.ts'
import { text } from '../option-values.ts'

interface Info {
  readonly Containers: number
  readonly ContainersRunning: number
  readonly ContainersPaused: number
  readonly ContainersStopped: number
  readonly Images: number
  readonly ServerVersion: string
  readonly Driver: string
  readonly CgroupDriver: string
  readonly CgroupVersion: string
  readonly Runtimes: Readonly<Record<string, { readonly status?: Readonly<Record<string, string>> }>>
  readonly DefaultRuntime: string
  readonly SecurityOptions: readonly string[] | null
  readonly KernelVersion: string
  readonly OperatingSystem: string
  readonly Architecture: string
  readonly NCPU: number
  readonly MemTotal: number
  readonly Name: string
  readonly ID: string
  readonly DockerRootDir: string
  readonly Warnings?: readonly string[] | null
}

export const action: Action = async (_args, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const info = await client.json<Info>('GET', '/info', { signal: context.signal })
  if (context.json || text(options, 'format') !== undefined) {
    printValue(info, context.json ? { format: 'json' } : options, context)
    return 0
  }
  const lines: [string, string | number][] = [
    [
      'Containers',
      `${info.Containers} (${info.ContainersRunning} running, ${info.ContainersPaused} paused, ${info.ContainersStopped} stopped)`,
    ],
    ['Images', info.Images],
    ['Version', info.ServerVersion],
    ['Storage Driver', info.Driver],
    ['Cgroup', `version ${info.CgroupVersion}, ${info.CgroupDriver}`],
    ['Runtimes', `${Object.keys(info.Runtimes).join(', ')} (default: ${info.DefaultRuntime})`],
    ...troublesOf(info),
    ['Security Options', (info.SecurityOptions ?? []).join(', ') || 'none'],
    ['Kernel', info.KernelVersion],
    ['Operating System', info.OperatingSystem],
    ['Architecture', info.Architecture],
    ['CPUs', info.NCPU],
    ['Total Memory', binarySize(info.MemTotal)],
    ['Name', info.Name],
    ['ID', info.ID],
    ['Root Dir', info.DockerRootDir],
  ]
  for (const [name, value] of lines) context.stdout.write(`${name}: ${value}\n`)
  for (const warning of info.Warnings ?? []) context.stderr.write(`darner: ${warning}\n`)
  return 0
}

/** Why a runtime is not the default: it was tried when the agent started. */
function troublesOf({ Runtimes }: Info): [string, string][] {
  return Object.entries(Runtimes).flatMap(([name, { status }]): [string, string][] => {
    const trouble = status?.['darner.trouble']
    return trouble === undefined ? [] : [[`Runtime ${name}`, `can start no container on this host: ${trouble}`]]
  })
}
