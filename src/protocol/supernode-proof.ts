/**
 * How a supernode that is asked for its address over plain HTTP proves itself: with the join token, which is never sent. The asker makes up
 * a nonce. The answer holds an HMAC of the nonce and the addresses, so nobody between the two can put in others.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** What the asker makes up: 16 bytes in hex at least. */
export const NONCE = /^[0-9a-f]{32,128}$/

/** The proof for `multiaddrs`, as hex. */
export function supernodeProof(token: string, nonce: string, multiaddrs: readonly string[]): string {
  return createHmac('sha256', token)
    .update(JSON.stringify(['darner supernode address', nonce, multiaddrs]))
    .digest('hex')
}

/** Whether only a holder of the token could have made `proof`. */
export function provesSupernode(proof: string, token: string, nonce: string, multiaddrs: readonly string[]): boolean {
  const right = Buffer.from(supernodeProof(token, nonce, multiaddrs))
  const shown = Buffer.from(proof)
  return shown.byteLength === right.byteLength && timingSafeEqual(shown, right)
}
