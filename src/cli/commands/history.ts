/** `darner history`: the steps that made an image, the newest first. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { printList, type Row } from '../format/list.ts'
import { ago, cut, plain, shortId, size } from '../format/words.ts'
import { truth } from '../option-values.ts'

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
  const human = truth(options, 'human', true)
  const rows = steps.map(
    (one): Row => ({
      ID: one.Id.startsWith('<') ? one.Id : shortId(one.Id, whole),
      CreatedSince: one.Created === 0 ? 'N/A' : human ? ago(one.Created * 1000, Date.now()) : dateOf(one),
      CreatedAt: dateOf(one),
      CreatedBy: whole ? plain(one.CreatedBy) : cut(plain(one.CreatedBy), 45),
      Size: human ? size(one.Size) : String(one.Size),
      Comment: plain(one.Comment),
    }),
  )
  const columns = {
    ID: 'IMAGE',
    CreatedSince: human ? 'CREATED' : 'CREATED AT',
    CreatedBy: 'CREATED BY',
    Size: 'SIZE',
    Comment: 'COMMENT',
  }
  printList(rows, { columns, quiet: 'ID' }, options, context)
  return 0
}

const dateOf = ({ Created }: Step) => new Date(Created * 1000).toISOString()
