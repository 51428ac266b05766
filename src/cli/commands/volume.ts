/** `darner volume`: the volumes of this host. */
import type { Action } from '../context.ts'
import { DockerClient, filtersOf } from '../docker-client.ts'
import { printList, type Row } from '../format/list.ts'
import { texts } from '../option-values.ts'

interface Volume {
  readonly Name: string
  readonly Driver: string
  readonly Mountpoint: string
  readonly Scope: string
  readonly Labels: Readonly<Record<string, string>> | null
}

export const action: Action = async (_args, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const query = filtersOf(texts(options, 'filter'))
  const { Volumes } = await client.json<{ Volumes: Volume[] }>('GET', '/volumes', { query, signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(Volumes)}\n`)
    return 0
  }
  const rows = Volumes.map(
    ({ Name, Driver, Mountpoint, Scope, Labels }): Row => ({
      Driver,
      Name,
      Mountpoint,
      Scope,
      Labels: Object.entries(Labels ?? {})
        .map(([name, value]) => `${name}=${value}`)
        .join(','),
    }),
  )
  printList(rows, { columns: { Driver: 'DRIVER', Name: 'VOLUME NAME' }, quiet: 'Name' }, options, context)
  return 0
}
