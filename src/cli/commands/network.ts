/** `darner network`: the networks of this host. */
import type { NetworkView } from '../../api/networks-api.ts'
import type { Action } from '../context.ts'
import { DockerClient, filtersOf } from '../docker-client.ts'
import { printList, type Row } from '../format/list.ts'
import { shortId } from '../format/words.ts'
import { NetworkClient } from '../network-client.ts'
import { texts } from '../option-values.ts'

export const action: Action = async (_args, options, context) => {
  const { signal, socket } = context
  const all = await new NetworkClient({ socket }).list({ signal })
  const filters = texts(options, 'filter')
  const fitting = filters.length > 0 ? await idsOf(filters, socket, signal) : undefined
  const networks = fitting === undefined ? all : all.filter(({ id }) => fitting.has(id))
  if (context.json) {
    context.stdout.write(`${JSON.stringify(networks)}\n`)
    return 0
  }
  const rows = networks.map((one) => rowOf(one, options.trunc === false))
  const columns = { ID: 'NETWORK ID', Name: 'NAME', Driver: 'DRIVER', Subnets: 'SUBNETS', Containers: 'CONTAINERS' }
  printList(rows, { columns, quiet: 'ID' }, options, context)
  return 0
}

/** Those that docker's filters leave. */
async function idsOf(filters: readonly string[], socket: string, signal: AbortSignal): Promise<Set<string>> {
  const query = filtersOf(filters)
  const found = await new DockerClient({ socket }).json<{ Id: string }[]>('GET', '/networks', { query, signal })
  return new Set(found.map(({ Id }) => Id))
}

function rowOf(one: NetworkView, whole: boolean): Row {
  return {
    ID: shortId(one.id, whole),
    Name: one.name,
    Driver: one.kind,
    Scope: 'local',
    Subnets: one.subnets.map(({ subnet }) => subnet).join(', ') || '-',
    Containers: String(Object.keys(one.containers).length),
    IPv6: String(one.subnets.some(({ subnet }) => subnet.includes(':'))),
    Internal: String(one.internal === true),
    Labels: Object.entries(one.labels ?? {})
      .map(([name, value]) => `${name}=${value}`)
      .join(','),
  }
}
