/** Notices the keys that leave a container without ending it, as the docker family has them: ctrl-p ctrl-q. */

export const DETACH_KEYS: readonly number[] = [0x10, 0x11]

/** Splits typed bytes into what goes on and whether the keys were typed; the first keys are held until the next byte tells. */
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
