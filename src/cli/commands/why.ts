/** `darner why`: every read of blobs at their origin, by whom and why, as the supernode has it on record. */

import type { WhyView } from '../../api/care-api.ts'
import { formatBytes } from '../../core/config/units.ts'
import { calledBlobs } from '../called-blobs.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { table } from '../format/table.ts'
import { plain, stamp } from '../format/words.ts'

const HEADS = ['BLOB', 'BYTES', 'READ BY', 'LAST READ', 'WHY']

export const action: Action = async ([called = ''], _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const { signal } = context
  const blobs = await calledBlobs(called, context)
  const views: WhyView[] = []
  for (const blob of blobs)
    views.push(await client.json<WhyView>('GET', `/v1/why/${encodeURIComponent(blob)}`, { signal }))
  const [view] = views
  // of an image there is a list, however many blobs it has
  if (context.json) context.stdout.write(`${JSON.stringify(views.length === 1 ? view : views)}\n`)
  else context.stdout.write(textOf(views))
  return 0
}

function textOf(views: readonly WhyView[]): string {
  const rows = views.flatMap(({ task, reads }) =>
    reads.map(({ peer, host, reason, bytes, atMs }) => [
      shortTask(task),
      formatBytes(bytes),
      plain(host ?? peer),
      stamp(atMs),
      plain(reason),
    ]),
  )
  const unread = views.filter(({ reads }) => reads.length === 0).map(({ task }) => shortTask(task))
  const none = unread.length === 0 ? '' : `no read at an origin is on record of ${unread.join(', ')}\n`
  return `${rows.length === 0 ? '' : table([HEADS, ...rows])}${none}`
}

/** Enough of it to find it again. */
const shortTask = (task: string) => task.slice(0, task.indexOf(':') + 1 + 12)
