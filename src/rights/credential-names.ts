/** Tells credentials apart without keeping them. */
import { createHash, randomBytes } from 'node:crypto'
import type { Credential } from '../core/task/origin.ts'

/** An asker without a credential: what it gets, anybody gets. */
export const ANYBODY = 'anybody'

export class CredentialNames {
  readonly #key = randomBytes(32)

  /** A short one-way name, the same as long as this process lives. */
  of(credential: Credential | undefined): string {
    if (credential === undefined) return ANYBODY
    return createHash('sha256').update(this.#key).update(JSON.stringify(credential)).digest('base64url')
  }
}
