/** Standard output, or a device, pipe or socket by its name: bytes go out in order, and none comes back. */
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import type { Writable } from 'node:stream'
import { DarnerError, systemCode } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import type { Target } from './target.ts'

export class StreamTarget implements Target {
  readonly name: string
  readonly inOrder = true
  readonly #out: Writable
  readonly #own: boolean
  readonly #signal: AbortSignal
  #sent = 0
  #failed: unknown

  /** `own` streams are ended when all is written. */
  constructor(name: string, out: Writable, { own, signal }: { own: boolean; signal: AbortSignal }) {
    this.name = name
    this.#out = out
    this.#own = own
    this.#signal = signal
    if (own) {
      out.on('error', (error) => {
        this.#failed ??= error
      })
    }
  }

  static open(path: string, { signal }: { signal: AbortSignal }): StreamTarget {
    return new StreamTarget(path, createWriteStream(path, { flags: 'w' }), { own: true, signal })
  }

  async kept(): Promise<undefined> {
    return undefined
  }

  async restart(): Promise<void> {
    if (this.#sent === 0) return
    throw new DarnerError(
      'ORIGIN_CHANGED',
      `${this.#sent} bytes were already written to ${this.name}, which cannot be undone`,
    )
  }

  /** No faster than it is read; ends with the signal, which also comes when nobody reads any more. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#check()
    this.#sent += bytes.byteLength
    if (this.#out.write(bytes)) return
    await abortable(this.#room(), this.#signal)
    this.#check()
  }

  clone(): boolean {
    return false
  }

  async finish(): Promise<void> {
    if (!this.#own) return
    this.#out.end()
    await once(this.#out, 'close').catch(() => {})
    this.#check()
  }

  keep(): void {}

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#own) this.#out.destroy()
  }

  /** Resolves when it takes more, or has failed. */
  #room(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const go = () => {
      this.#out.off('drain', go)
      this.#out.off('close', go)
      resolve()
    }
    this.#out.on('drain', go)
    this.#out.on('close', go)
    return promise
  }

  #check(): void {
    if (this.#failed === undefined) return
    const code = systemCode(this.#failed) ?? String(this.#failed)
    throw new DarnerError('COMMAND_FAILED', `cannot write ${this.name}: ${code}`, { cause: this.#failed })
  }
}
