/** `darner stats`: what containers use, drawn anew with each answer, or once. */
import type { Action, CommandContext } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { printList, type Row } from '../format/list.ts'
import { binarySize, shortId, size } from '../format/words.ts'
import { text } from '../option-values.ts'

interface Cpu {
  readonly cpu_usage: { readonly total_usage: number }
  readonly system_cpu_usage?: number
  readonly online_cpus?: number
}

interface Stats {
  readonly id: string
  readonly name: string
  readonly cpu_stats: Cpu
  readonly precpu_stats: Cpu
  readonly memory_stats: { readonly usage?: number; readonly limit?: number; readonly stats?: Record<string, number> }
  readonly networks?: Readonly<Record<string, { readonly rx_bytes: number; readonly tx_bytes: number }>>
  readonly blkio_stats?: { readonly io_service_bytes_recursive?: readonly { op: string; value: number }[] | null }
  readonly pids_stats?: { readonly current?: number }
  /** darner's own: what is used of disk quotas. */
  readonly disk_quota?: readonly { readonly path: string; readonly bytes: { used: number; limit: number } }[]
}

const COLUMNS = {
  Container: 'CONTAINER ID',
  Name: 'NAME',
  CPUPerc: 'CPU %',
  MemUsage: 'MEM USAGE / LIMIT',
  MemPerc: 'MEM %',
  NetIO: 'NET I/O',
  BlockIO: 'BLOCK I/O',
  PIDs: 'PIDS',
}

export const action: Action = async (args, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const { signal } = context
  for (;;) {
    const names = args.length > 0 ? args : await running(client, options.all === true, signal)
    // the agent takes two samples a second apart, which is also the pace of the drawing
    const found = await Promise.all(
      names.map((name) =>
        client.json<Stats>('GET', `/containers/${pathPart(name)}/stats`, { query: { stream: false }, signal }),
      ),
    )
    const once = options.stream === false
    const rows = found.map((one) => rowOf(one, options.trunc === false))
    const terminal = (context.stdout as { isTTY?: boolean }).isTTY === true
    if (!once && terminal && !context.json && text(options, 'format') === undefined)
      context.stdout.write('\u001b[H\u001b[2J')
    print(rows, options, context)
    if (once) return 0
    if (names.length === 0) await pause(signal)
  }
}

function print(rows: readonly Row[], options: Readonly<Record<string, unknown>>, context: CommandContext): void {
  const columns = rows.some(({ DiskUsage }) => DiskUsage !== '') ? { ...COLUMNS, DiskUsage: 'DISK / QUOTA' } : COLUMNS
  if (context.json) for (const row of rows) context.stdout.write(`${JSON.stringify(row)}\n`)
  else printList(rows, { columns, quiet: 'Container' }, options, context)
}

async function running(client: DockerClient, all: boolean, signal: AbortSignal): Promise<string[]> {
  const list = await client.json<{ Id: string }[]>('GET', '/containers/json', { query: all ? { all } : {}, signal })
  return list.map(({ Id }) => Id)
}

function rowOf(one: Stats, whole: boolean): Row {
  const used = one.cpu_stats.cpu_usage.total_usage - one.precpu_stats.cpu_usage.total_usage
  const spent = (one.cpu_stats.system_cpu_usage ?? 0) - (one.precpu_stats.system_cpu_usage ?? 0)
  const cpu = used > 0 && spent > 0 ? (used / spent) * (one.cpu_stats.online_cpus ?? 1) * 100 : 0
  const { usage = 0, limit = 0, stats = {} } = one.memory_stats
  const memory = Math.max(0, usage - (stats.total_inactive_file ?? stats.inactive_file ?? 0))
  const nets = Object.values(one.networks ?? {})
  const io = one.blkio_stats?.io_service_bytes_recursive ?? []
  const sum = (op: string) => io.filter((row) => row.op.toLowerCase() === op).reduce((all, row) => all + row.value, 0)
  return {
    Container: shortId(one.id, whole),
    ID: shortId(one.id, whole),
    Name: one.name.replace(/^\//, ''),
    CPUPerc: `${cpu.toFixed(2)}%`,
    MemUsage: `${binarySize(memory)} / ${binarySize(limit)}`,
    MemPerc: `${(limit > 0 ? (memory / limit) * 100 : 0).toFixed(2)}%`,
    NetIO: `${size(nets.reduce((all, net) => all + net.rx_bytes, 0))} / ${size(nets.reduce((all, net) => all + net.tx_bytes, 0))}`,
    BlockIO: `${size(sum('read'))} / ${size(sum('write'))}`,
    PIDs: String(one.pids_stats?.current ?? 0),
    DiskUsage: (one.disk_quota ?? [])
      .map(({ path, bytes }) => `${path} ${binarySize(bytes.used)} / ${binarySize(bytes.limit)}`)
      .join(', '),
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  const { setTimeout: sleep } = await import('node:timers/promises')
  await sleep(1000, undefined, { signal })
}
