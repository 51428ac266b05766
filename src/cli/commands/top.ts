/** `darner top`: the processes of a container, with the columns of ps. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { table } from '../format/table.ts'

export const action: Action = async ([name = '', ...words], _options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const query = words.length > 0 ? { ps_args: words.join(' ') } : {}
  const { Titles, Processes } = await client.json<{ Titles: string[]; Processes: string[][] }>(
    'GET',
    `/containers/${pathPart(name)}/top`,
    { query, signal: context.signal },
  )
  context.stdout.write(table([Titles, ...Processes]))
  return 0
}
