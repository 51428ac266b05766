/** `darner volume rm`: deletes volumes that no container has, with what is in them. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { forEach } from '../each.ts'

export const action: Action = (args, options, context) => {
  const client = new DockerClient({ socket: context.socket })
  const query = options.force === true ? { force: true } : {}
  return forEach(args, context, async (name) => {
    await client.json('DELETE', `/volumes/${pathPart(name)}`, { query, signal: context.signal })
  })
}
