/** `darner commit`: what a container changed as a new layer over its image; prints the new image's id. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { text, texts, truth } from '../option-values.ts'

export const action: Action = async ([container = '', name], options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const [comment, author] = [text(options, 'message'), text(options, 'author')]
  const query = {
    container,
    ...(name === undefined ? {} : { repo: name }),
    ...(comment === undefined ? {} : { comment }),
    ...(author === undefined ? {} : { author }),
    ...(options.pause === false || !truth(options, 'pause', true) ? { pause: false } : {}),
    changes: texts(options, 'change'),
  }
  const { Id } = await client.json<{ Id: string }>('POST', '/commit', { query, body: {}, signal: context.signal })
  context.stdout.write(`${Id}\n`)
  return 0
}
