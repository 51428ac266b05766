/** `darner port`: the published ports of a container, one a line, as docker prints them. */
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'

export const action: Action = async (args, _options, context) => {
  const [name = ''] = args
  const view = await new EngineClient({ socket: context.socket }).inspect(name, { signal: context.signal })
  for (const { containerPort, protocol, hostIp, hostPort } of view.networking?.ports ?? []) {
    const address = hostIp === '' ? '0.0.0.0' : hostIp.includes(':') ? `[${hostIp}]` : hostIp
    context.stdout.write(`${containerPort}/${protocol} -> ${address}:${hostPort}\n`)
  }
  return 0
}
