/** `darner tag`: gives an image of this host one more name. */
import type { Action } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'

export const action: Action = async ([source = '', target = ''], _options, context) => {
  const client = new DockerClient({ socket: context.socket })
  await client.json('POST', `/images/${pathPart(source)}/tag`, { query: { repo: target }, signal: context.signal })
  return 0
}
