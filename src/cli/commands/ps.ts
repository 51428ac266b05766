/** `darner ps`: the containers of this host. */
import type { ServiceView } from '../../api/rich-api.ts'
import type { Action, CommandContext } from '../context.ts'
import { DockerClient, filtersOf } from '../docker-client.ts'
import { EngineClient } from '../engine-client.ts'
import { printList, type Row } from '../format/list.ts'
import { commandOf, type ListedContainer, namesOf } from '../format/listed-container.ts'
import { table } from '../format/table.ts'
import { ago, cut, plain, shortId, size, stamp } from '../format/words.ts'
import { texts, whole } from '../option-values.ts'

interface Listed extends ListedContainer {
  readonly Ports: readonly { IP?: string; PrivatePort: number; PublicPort?: number; Type: string }[]
  readonly Labels: Readonly<Record<string, string>>
  readonly Mounts: readonly { Name?: string; Source: string }[]
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, unknown>> }
  readonly SizeRootFs?: number
}

export const action: Action = async (_args, options, context) => {
  if (options.services === true) return services(context)
  const last = options.latest === true ? 1 : whole(options, 'last')
  const all = options.all === true || last !== undefined
  if (context.json) {
    const found = await new EngineClient({ socket: context.socket }).list({ all, signal: context.signal })
    context.stdout.write(`${JSON.stringify(found)}\n`)
    return 0
  }
  const query = {
    ...(all ? { all } : {}),
    ...(last === undefined ? {} : { limit: last }),
    ...(options.size === true ? { size: true } : {}),
    ...filtersOf(texts(options, 'filter')),
  }
  const client = new DockerClient({ socket: context.socket })
  const found = await client.json<Listed[]>('GET', '/containers/json', { query, signal: context.signal })
  const rows = found.map((one) => rowOf(one, { whole: options.trunc === false, now: Date.now() }))
  const columns = {
    ID: 'CONTAINER ID',
    Image: 'IMAGE',
    Command: 'COMMAND',
    RunningFor: 'CREATED',
    Status: 'STATUS',
    Ports: 'PORTS',
    Names: 'NAMES',
    ...(options.size === true ? { Size: 'SIZE' } : {}),
  }
  printList(rows, { columns, quiet: 'ID' }, options, context)
  return 0
}

function rowOf(one: Listed, { whole, now }: { whole: boolean; now: number }): Row {
  const mounts = one.Mounts.map(({ Name, Source }) => Name ?? Source)
  return {
    ID: shortId(one.Id, whole),
    Names: namesOf(one),
    Image: one.Image,
    Command: `"${commandOf(one, { whole })}"`,
    CreatedAt: stamp(one.Created * 1000),
    RunningFor: ago(one.Created * 1000, now),
    State: one.State,
    Status: one.Status,
    Ports: one.Ports.map(portText).join(', '),
    Labels: Object.entries(one.Labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(','),
    Mounts: mounts.map((name) => (whole ? name : cut(name, 15))).join(','),
    LocalVolumes: String(one.Mounts.filter(({ Name }) => Name !== undefined).length),
    Networks: Object.keys(one.NetworkSettings.Networks).join(','),
    Size: one.SizeRw === undefined ? '0B' : `${size(one.SizeRw)} (virtual ${size(one.SizeRootFs ?? 0)})`,
  }
}

function portText({ IP, PrivatePort, PublicPort, Type }: Listed['Ports'][number]): string {
  if (PublicPort === undefined) return `${PrivatePort}/${Type}`
  return `${IP === undefined ? '' : `${IP.includes(':') ? `[${IP}]` : IP}:`}${PublicPort}->${PrivatePort}/${Type}`
}

async function services(context: CommandContext): Promise<number> {
  const all = await new EngineClient({ socket: context.socket }).services({ signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(all)}\n`)
  else context.stdout.write(serviceTable(all))
  return 0
}

function serviceTable(services: readonly ServiceView[]): string {
  const rows = services.map((one) => [
    one.container,
    one.name,
    one.status,
    String(one.restarts),
    one.lastExitCode === undefined ? '-' : String(one.lastExitCode),
    `"${cut(plain(one.command.join(' ')), 40)}"`,
    one.logPath,
  ])
  return table([['CONTAINER', 'SERVICE', 'STATUS', 'RESTARTS', 'LAST EXIT', 'COMMAND', 'LOG'], ...rows])
}
