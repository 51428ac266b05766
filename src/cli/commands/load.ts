/** `darner load`: images from what save, podman save or skopeo copy wrote. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { readFrom } from '../files-io.ts'
import { text } from '../option-values.ts'

export const action: Action = async (_args, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const content = await readFrom(text(options, 'input') ?? '-', context)
  for await (const { stream } of client.progress('POST', '/images/load', { content, signal: context.signal }))
    if (stream !== undefined && options.quiet !== true) context.stdout.write(stream)
  return 0
}
