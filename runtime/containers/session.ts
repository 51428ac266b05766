/** One client at the streams of a process: output, input, terminal size, and in the end the exit code. */

import type { ExitReply, TerminalSize } from '../../src/api/containers-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Attached, OutputChunk } from '../shim/attach.ts'
import type { Unheard } from '../shim/unheard.ts'

export interface Session extends AsyncDisposable {
  /** Ends when the process did or the session was left. Iterate once. Throws why the process could not be started. */
  output(): AsyncGenerator<OutputChunk>
  /** Waits until there is a process. */
  write(bytes: Uint8Array): Promise<void>
  endInput(): Promise<void>
  resize(size: TerminalSize): Promise<void>
  /** How the process ended; rejects when it could not be started, or its container was removed. */
  readonly result: Promise<ExitReply>
  /** Leaves; the process goes on. */
  leave(): void
}

/** A session for a container that may not run yet: it connects when `connect` is called, before the first byte of output. */
export class WaitingSession implements Session {
  readonly #attached = Promise.withResolvers<Attached>()
  #unheard: Unheard | undefined
  readonly #resize: (size: TerminalSize) => Promise<void>
  readonly #onLeave: (session: WaitingSession) => void
  readonly result: Promise<ExitReply>
  #left = false

  constructor(parts: {
    result: Promise<ExitReply>
    resize: (size: TerminalSize) => Promise<void>
    onLeave: (session: WaitingSession) => void
  }) {
    this.result = parts.result
    this.#resize = parts.resize
    this.#onLeave = parts.onLeave
    this.#attached.promise.catch(() => {}) // output() and write() report it
    this.result.catch(() => {}) // the reader of the result reports it
  }

  /** `unheard`: the log of the run that is about to start, for what never came to `attached`; both are closed here. */
  connect(attached: Attached, unheard?: Unheard): void {
    this.#unheard = unheard
    if (this.#left) {
      attached.close()
      this.#forget()
    } else this.#attached.resolve(attached)
  }

  fail(error: unknown): void {
    this.#attached.reject(error)
  }

  async *output(): AsyncGenerator<OutputChunk> {
    const attached = await this.#attached.promise
    await using unheard = this.#unheard
    this.#unheard = undefined
    let heard = false
    for await (const chunk of attached.output()) {
      heard = true
      yield chunk
    }
    if (!heard && !this.#left && unheard) yield* unheard.output()
  }

  async write(bytes: Uint8Array): Promise<void> {
    await (await this.#attached.promise).write(bytes)
  }

  async endInput(): Promise<void> {
    await (await this.#attached.promise).endInput()
  }

  resize(size: TerminalSize): Promise<void> {
    return this.#resize(size)
  }

  leave(): void {
    if (this.#left) return
    this.#left = true
    this.#onLeave(this)
    this.#attached.promise.then(
      (attached) => attached.close(),
      () => {}, // it never was attached
    )
    this.#attached.reject(new DarnerError('CLOSED', 'the client left before the container started'))
    this.#forget()
  }

  #forget(): void {
    void this.#unheard?.[Symbol.asyncDispose]()
    this.#unheard = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.leave()
  }
}
