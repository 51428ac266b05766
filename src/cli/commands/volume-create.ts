/** `darner volume create`: makes a volume, under a name of its own without one; prints the name. */
import type { Action } from '../context.ts'
import { DockerClient } from '../docker-client.ts'
import { pairs, text, texts } from '../option-values.ts'

export const action: Action = async ([name], options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const driver = text(options, 'driver')
  const body = {
    ...(name === undefined ? {} : { Name: name }),
    ...(driver === undefined ? {} : { Driver: driver }),
    DriverOpts: pairs(texts(options, 'opt')),
    Labels: pairs(texts(options, 'label')),
  }
  const made = await client.json<{ Name: string }>('POST', '/volumes/create', { body, signal: context.signal })
  context.stdout.write(`${made.Name}\n`)
  return 0
}
