/** `darner import`: a root file system as an image of one layer; prints its id. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { readFrom } from '../files-io.ts'
import { text, texts } from '../option-values.ts'

export const action: Action = async ([file = '-', name], options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const [message, platform] = [text(options, 'message'), text(options, 'platform')]
  const query = {
    fromSrc: '-',
    ...(name === undefined ? {} : { repo: name }),
    ...(message === undefined ? {} : { message }),
    ...(platform === undefined ? {} : { platform }),
    changes: texts(options, 'change'),
  }
  const content = await readFrom(file, context)
  for await (const { status } of client.progress('POST', '/images/create', { query, content, signal: context.signal }))
    if (status !== undefined) context.stdout.write(`${status}\n`)
  return 0
}
