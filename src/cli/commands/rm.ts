/** `darner rm`: removes containers, with their writable layer and log. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { forEach } from '../each.ts'
import { EngineClient } from '../engine-client.ts'

export const action: Action = (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  if (options.volumes === true) {
    const query = { v: true, ...(options.force === true ? { force: true } : {}) }
    const docker = new DockerClient({ socket: context.socket })
    return forEach(args, context, async (name) => {
      await docker.json('DELETE', `/containers/${pathPart(name)}`, { query, signal: context.signal })
    })
  }
  return forEach(args, context, (name) =>
    client.remove(name, { force: options.force === true, signal: context.signal }),
  )
}
