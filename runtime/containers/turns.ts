/**
 * Which container may be made now. If more of them run than processors can take, they only wait for each other in the kernel, on its locks
 * for mounts, namespaces and cgroups.
 */
import PQueue from 'p-queue'

export interface TurnsOptions {
  readonly atOnce: number
  /** A turn counts no longer than this: one that hangs, on a dead file server or a hook, holds up nobody else. */
  readonly mostMs: number
}

export class Turns {
  readonly #queue: PQueue

  constructor({ atOnce, mostMs }: TurnsOptions) {
    this.#queue = new PQueue({ concurrency: atOnce, timeout: mostMs })
  }

  /** In the order of asking. The caller disposes it when its work is done. */
  async take(): Promise<Disposable> {
    const taken = Promise.withResolvers<void>()
    const over = Promise.withResolvers<void>()
    const turn = this.#queue.add(() => {
      taken.resolve()
      return over.promise
    })
    turn.catch(() => {}) // TimeoutError: it counts no longer
    await taken.promise
    return { [Symbol.dispose]: () => over.resolve() }
  }
}
