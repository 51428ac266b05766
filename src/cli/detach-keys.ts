/** Notices the keys that leave a container without ending it, as the docker family has them: ctrl-p ctrl-q. */
import { DarnerError } from '../core/errors.ts'
import { text } from './option-values.ts'

export const DETACH_KEYS: readonly number[] = [0x10, 0x11]

/** What `--detach-keys` says, as the bytes that a terminal sends; nothing when it is not given. Throws BAD_ARGUMENT. */
export function detachKeysOf(options: Readonly<Record<string, unknown>>): { detachKeys?: readonly number[] } {
  const given = text(options, 'detachKeys') ?? ''
  if (given === '') return {}
  const detachKeys = given.split(',').map((word) => {
    const [, held] = /^ctrl-([a-z@[\\\]^_])$/.exec(word) ?? []
    if (held !== undefined) return held.toUpperCase().charCodeAt(0) & 0x1f
    if (/^[\x20-\x7e]$/.test(word)) return word.charCodeAt(0)
    throw new DarnerError(
      'BAD_ARGUMENT',
      `--detach-keys ${given}: expected a letter or ctrl-LETTER, with commas between`,
    )
  })
  return { detachKeys }
}

/** Splits typed bytes into what goes on and whether the keys were typed. The first keys are held until the next byte decides. */
export class DetachKeys {
  readonly #keys: readonly number[]
  #matched = 0

  constructor(keys: readonly number[] = DETACH_KEYS) {
    this.#keys = keys
  }

  push(bytes: Uint8Array): { pass: Uint8Array; detached: boolean } {
    const pass: number[] = []
    for (const byte of bytes) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched++
        if (this.#matched === this.#keys.length) return { pass: Uint8Array.from(pass), detached: true }
        continue
      }
      pass.push(...this.#keys.slice(0, this.#matched))
      this.#matched = byte === this.#keys[0] ? 1 : 0
      if (this.#matched === 0) pass.push(byte)
    }
    return { pass: Uint8Array.from(pass), detached: false }
  }
}
