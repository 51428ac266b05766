/** `darner rm`: removes containers, with their writable layer and log. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { forEach } from '../each.ts'
import { EngineClient } from '../engine-client.ts'

export const action: Action = (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const force = options.force === true
  if (options.volumes === true) {
    const query = { v: true, ...(force ? { force } : {}) }
    const docker = new DockerClient({ socket: context.socket })
    return forEach(
      args,
      context,
      async (name) => {
        await docker.json('DELETE', `/containers/${pathPart(name)}`, { query, signal: context.signal })
      },
      { force },
    )
  }
  return forEach(args, context, (name) => client.remove(name, { force, signal: context.signal }), { force })
}
