/** TLS over an accepted connection. */
import { TLSSocket } from 'node:tls'

/**
 * Arriving bytes go straight to `take`, which returns false to stop reading until {@link resume}. The buffer of a readable stream would
 * cost a small frame more than its own work. Node has `onread` for this, but only for connections that it dials.
 */
export class AcceptedSocket extends TLSSocket {
  #take: ((chunk: Uint8Array) => boolean) | undefined

  /** Sets the receiver of what arrives; call it at once. */
  onBytes(take: (chunk: Uint8Array) => boolean): void {
    this.#take = take
  }

  override push(chunk: Uint8Array | null): boolean {
    if (chunk === null || this.#take === undefined) return super.push(chunk)
    return this.#take(chunk)
  }

  override resume(): this {
    this._read(0)
    return super.resume()
  }
}
