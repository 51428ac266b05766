/** One client at the streams of a process: output, input, terminal size, and in the end the exit code. */
import { DarnerError } from '../../src/base/errors.ts'
import type { ExitReply, TerminalSize } from '../../src/wire/local-api.ts'
import type { Attached, OutputChunk } from '../shim/attach.ts'

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
    this.#attached.promise.catch(() => {}) // heard by output() and write()
    this.result.catch(() => {}) // heard by who reads it
  }

  connect(attached: Attached): void {
    if (this.#left) attached.close()
    else this.#attached.resolve(attached)
  }

  fail(error: unknown): void {
    this.#attached.reject(error)
  }

  async *output(): AsyncGenerator<OutputChunk> {
    yield* (await this.#attached.promise).output()
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
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.leave()
  }
}
