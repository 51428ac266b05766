/** Option values as commander hands them over: unknown until looked at. */
import { DarnerError } from '../core/errors.ts'

export function text(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name]
  return typeof value === 'string' ? value : undefined
}

export function texts(options: Readonly<Record<string, unknown>>, name: string): string[] {
  const value = options[name]
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : []
}

/** Like {@link texts}; undefined when there is none. */
export function list(options: Readonly<Record<string, unknown>>, name: string): string[] | undefined {
  const found = texts(options, name)
  return found.length > 0 ? found : undefined
}

export function whole(options: Readonly<Record<string, unknown>>, name: string): number | undefined {
  const value = options[name]
  return typeof value === 'number' ? value : undefined
}

/** `NAME` alone takes the value from here, and is left out where there is none. */
export function resolveEnv(given: readonly string[], env: Readonly<Record<string, string | undefined>>): string[] {
  return given.flatMap((one) => {
    if (one.includes('=')) return [one]
    const value = env[one]
    return value === undefined ? [] : [`${one}=${value}`]
  })
}

/** `NAME=VALUE` words as an object; NAME alone has the empty value. */
export function pairs(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf('=')
      return at < 0 ? [word, ''] : [word.slice(0, at), word.slice(at + 1)]
    }),
  )
}

/** A switch that may be said with a value, as docker's may: `--pause=false`. Throws BAD_ARGUMENT. */
export function truth(options: Readonly<Record<string, unknown>>, name: string, standard: boolean): boolean {
  const given = text(options, name)
  if (given === undefined) return standard
  if (/^(1|t|true)$/i.test(given)) return true
  if (/^(0|f|false)$/i.test(given)) return false
  throw new DarnerError('BAD_ARGUMENT', `${JSON.stringify(given.slice(0, 60))}: expected true or false`)
}
