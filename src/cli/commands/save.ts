/** `darner save`: images with all their layers as one tar, an OCI layout and a docker archive in one. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { saveTo } from '../files-io.ts'
import { text } from '../option-values.ts'

export const action: Action = async (names, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  await saveTo(text(options, 'output'), context, () =>
    client.open('GET', '/images/get', { query: { names }, signal: context.signal }),
  )
  return 0
}
