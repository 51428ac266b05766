/** The keys by which a client leaves a terminal while its process goes on, as docker's daemon watches for them in the input. */
import { StatusError } from './errors.ts'

/** ctrl-p, ctrl-q. */
const DEFAULT_KEYS = [16, 17]
const CONTROL = '@abcdefghijklmnopqrstuvwxyz[\\]^_'

/** `ctrl-p,ctrl-q`, `a,b`: bytes in their order; the default for none. Throws 400. */
export function detachKeys(text: string | null | undefined): readonly number[] {
  if (!text) return DEFAULT_KEYS
  return text.split(',').map((key) => {
    const control = /^ctrl-(.)$/i.exec(key)?.[1]
    const code = control === undefined ? key.charCodeAt(0) : CONTROL.indexOf(control.toLowerCase())
    const whole = control !== undefined || key.length === 1
    if (whole && code >= 0 && code < 128) return code
    throw new StatusError(400, `Invalid detach keys (${text.slice(0, 100)}) provided`)
  })
}

/** Looks for the keys in input that comes in parts. */
export class DetachWatch {
  readonly #keys: readonly number[]
  #matched = 0

  constructor(keys: readonly number[]) {
    this.#keys = keys
  }

  /** What of the input goes on to the process, and whether the keys were there; what came after them is dropped. */
  pass(bytes: Uint8Array): { readonly input: Uint8Array; readonly left: boolean } {
    const input: number[] = []
    for (const byte of bytes) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched++
        if (this.#matched === this.#keys.length) return { input: Uint8Array.from(input), left: true }
        continue
      }
      input.push(...this.#keys.slice(0, this.#matched))
      this.#matched = byte === this.#keys[0] ? 1 : 0
      if (this.#matched === 0) input.push(byte)
    }
    return { input: Uint8Array.from(input), left: false }
  }
}
