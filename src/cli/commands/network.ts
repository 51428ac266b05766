/** `darner network`: the networks of this host. */
import type { NetworkView } from '../../wire/networks-api.ts'
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = async (_args, options, context) => {
  const networks = await new NetworkClient({ socket: context.socket }).list({ signal: context.signal })
  if (context.json) context.stdout.write(`${JSON.stringify(networks)}\n`)
  else if (options.quiet === true) for (const one of networks) context.stdout.write(`${one.id.slice(0, 12)}\n`)
  else context.stdout.write(table(networks))
  return 0
}

function table(networks: readonly NetworkView[]): string {
  const rows = networks.map((one) => [
    one.id.slice(0, 12),
    one.name,
    one.kind,
    one.subnets.map(({ subnet }) => subnet).join(', ') || '-',
    String(Object.keys(one.containers).length),
  ])
  const all = [['NETWORK ID', 'NAME', 'KIND', 'SUBNETS', 'CONTAINERS'], ...rows]
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('   ')
      .trimEnd()
  return all.map((row) => `${line(row)}\n`).join('')
}
