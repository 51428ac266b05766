/** `darner network`: the networks of this host. */
import type { NetworkView } from '../../wire/networks-api.ts'
import type { Action } from '../context.ts'
import { printList, type Row } from '../format/list.ts'
import { shortId } from '../format/words.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = async (_args, options, context) => {
  const networks = await new NetworkClient({ socket: context.socket }).list({ signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(networks)}\n`)
    return 0
  }
  const rows = networks.map((one) => rowOf(one, options.trunc === false))
  const columns = { ID: 'NETWORK ID', Name: 'NAME', Driver: 'DRIVER', Subnets: 'SUBNETS', Containers: 'CONTAINERS' }
  printList(rows, { columns, quiet: 'ID' }, options, context)
  return 0
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
