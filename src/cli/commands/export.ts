/** `darner export`: the root file system of a container as a tar. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { saveTo } from '../files-io.ts'
import { text } from '../option-values.ts'

export const action: Action = async ([name = ''], options, context) => {
  const client = new DockerClient({ socket: context.socket })
  await saveTo(text(options, 'output'), context, () =>
    client.open('GET', `/containers/${pathPart(name)}/export`, { signal: context.signal }),
  )
  return 0
}
