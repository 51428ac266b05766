/** TLS over an accepted connection. */
import { TLSSocket } from 'node:tls'

/**
 * What arrives goes straight to `take`, which returns false to have reading stop until {@link resume}: on its way through the buffer of
 * a readable stream a small frame costs more than it does itself. Node has `onread` for this, but only for connections that it dials.
 */
export class AcceptedSocket extends TLSSocket {
  #take: ((chunk: Uint8Array) => boolean) | undefined

  /** Names the one who takes what arrives; call it at once. */
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
