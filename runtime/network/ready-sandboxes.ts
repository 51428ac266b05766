/** Sandboxes on the default network that wait for a container: the plugins' work is done before anybody asks. */
import type { Log } from '../../src/core/log.ts'
import type { Scope } from '../../src/core/scope.ts'
import type { SandboxRecord } from './records.ts'
import type { EndpointPlan, Sandboxes } from './sandboxes.ts'

export interface ReadyParts {
  readonly sandboxes: Sandboxes
  readonly scope: Scope
  readonly log: Log
  /** How a sandbox gets onto the network; undefined: it has gone. */
  readonly planOf: (networkId: string) => EndpointPlan | undefined
}

export class ReadySandboxes {
  readonly #most: number
  readonly #parts: ReadyParts
  readonly #taken = new Set<string>()
  #filling = false

  /** Keeps `most` ready; 0: none. */
  constructor(most: number, parts: ReadyParts) {
    this.#most = most
    this.#parts = parts
  }

  /** One that waits on the network, from now on this caller's: no two get the same. */
  take(networkId: string): SandboxRecord | undefined {
    const [found] = this.#waiting(networkId)
    if (found) this.#taken.add(found.id)
    return found
  }

  /** It is being taken apart. */
  gone(id: string): void {
    this.#taken.delete(id)
  }

  /** Makes what is missing in the background, one after the other. */
  fill(networkId: string): void {
    if (this.#filling || this.#most === 0) return
    this.#filling = true
    this.#parts.scope.run(async (signal) => {
      try {
        for (;;) {
          const plan = this.#parts.planOf(networkId)
          if (!plan || this.#waiting(networkId).length >= this.#most || signal.aborted) return
          await this.#parts.sandboxes.make({ owner: '', name: '', hostname: '' }, [plan], [], { signal })
        }
      } catch (error) {
        if (!signal.aborted) this.#parts.log.warn({ error }, 'no sandbox could be made ready')
      } finally {
        this.#filling = false
      }
    })
  }

  #waiting(networkId: string): SandboxRecord[] {
    return this.#parts.sandboxes
      .all()
      .filter((one) => one.owner === '' && !one.gone && !this.#taken.has(one.id) && isReady(one, networkId))
  }
}

function isReady(sandbox: SandboxRecord, networkId: string): boolean {
  const [only] = sandbox.endpoints
  return only?.networkId === networkId && only.result !== undefined
}
