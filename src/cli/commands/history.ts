/** `darner history`: the steps that made an image, the newest first. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { printList, type Row } from '../format/list.ts'
import { ago, cut, plain, shortId, size } from '../format/words.ts'

interface Step {
  readonly Id: string
  /** Epoch seconds. */
  readonly Created: number
  readonly CreatedBy: string
  readonly Size: number
  readonly Comment: string
  readonly Tags: readonly string[] | null
}

export const action: Action = async ([name = ''], options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const steps = await client.json<Step[]>('GET', `/images/${pathPart(name)}/history`, { signal: context.signal })
  if (context.json) {
    context.stdout.write(`${JSON.stringify(steps)}\n`)
    return 0
  }
  const whole = options.trunc === false
  const rows = steps.map(
    (one): Row => ({
      ID: one.Id.startsWith('<') ? one.Id : shortId(one.Id, whole),
      CreatedSince: one.Created === 0 ? 'N/A' : ago(one.Created * 1000, Date.now()),
      CreatedAt: new Date(one.Created * 1000).toISOString(),
      CreatedBy: whole ? plain(one.CreatedBy) : cut(plain(one.CreatedBy), 45),
      Size: size(one.Size),
      Comment: plain(one.Comment),
    }),
  )
  const columns = { ID: 'IMAGE', CreatedSince: 'CREATED', CreatedBy: 'CREATED BY', Size: 'SIZE', Comment: 'COMMENT' }
  printList(rows, { columns, quiet: 'ID' }, options, context)
  return 0
}
