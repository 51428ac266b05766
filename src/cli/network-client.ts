/** The client half of the agent's network API. */
import type { ConnectRequest, NetworkCreate, NetworkList, NetworkView } from '../api/networks-api.ts'
import { AgentClient } from './client.ts'

type Waits = { readonly signal: AbortSignal }

/** Every method throws AGENT_UNREACHABLE, or the DarnerError that the agent answered with. */
export class NetworkClient {
  readonly #agent: AgentClient

  constructor(options: { socket: string }) {
    this.#agent = new AgentClient(options)
  }

  async list({ signal }: Waits): Promise<NetworkView[]> {
    return (await this.#agent.json<NetworkList>('GET', '/v1/networks', { signal })).networks
  }

  create(body: NetworkCreate, { signal }: Waits): Promise<NetworkView> {
    return this.#agent.json('POST', '/v1/networks', { body, signal })
  }

  inspect(name: string, { signal }: Waits): Promise<NetworkView> {
    return this.#agent.json('GET', at(name), { signal })
  }

  async remove(name: string, { signal }: Waits): Promise<void> {
    await this.#agent.json('DELETE', at(name), { signal })
  }

  async connect(name: string, body: ConnectRequest, { signal }: Waits): Promise<void> {
    await this.#agent.json('POST', `${at(name)}/connect`, { body, signal })
  }

  async disconnect(name: string, container: string, { signal }: Waits): Promise<void> {
    await this.#agent.json('POST', `${at(name)}/disconnect`, { body: { container }, signal })
  }
}

function at(name: string): string {
  return `/v1/networks/${encodeURIComponent(name)}`
}
