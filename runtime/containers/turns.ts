/**
 * Who may make a container now. More of them at the same time than processors can take only wait for each other in the kernel, whose
 * locks for mounts, namespaces and cgroups they spin on.
 */

export interface TurnsOptions {
  readonly atOnce: number
  /** A turn counts no longer than this: one that hangs, on a dead file server or a hook, holds up nobody else. */
  readonly mostMs: number
}

export class Turns {
  readonly #options: TurnsOptions
  readonly #waiting: (() => void)[] = []
  #taken = 0

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** In the order of asking. The caller disposes it when its work is done. */
  async take(): Promise<Disposable> {
    if (this.#taken < this.#options.atOnce) this.#taken++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    let over = false
    const end = () => {
      if (over) return
      over = true
      clearTimeout(timer)
      const next = this.#waiting.shift()
      if (next) next()
      else this.#taken--
    }
    const timer = setTimeout(end, this.#options.mostMs)
    timer.unref()
    return { [Symbol.dispose]: end }
  }
}
