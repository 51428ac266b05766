/** The `filters` of docker's lists: JSON, `{ "name": ["a"] }` or the older `{ "name": { "a": true } }`. */
import { StatusError } from './errors.ts'

export type Filters = ReadonlyMap<string, readonly string[]>

/** Throws 400 for what is no filter, or for one that this list doesn't know. */
export function readFilters(text: string | undefined, known: readonly string[]): Filters {
  const found = new Map<string, string[]>()
  if (text === undefined || text === '') return found
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new StatusError(400, 'invalid filter')
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new StatusError(400, 'invalid filter')
  for (const [name, values] of Object.entries(json)) {
    if (!known.includes(name)) throw new StatusError(400, `invalid filter '${name}'`)
    const list = Array.isArray(values) ? values : Object.keys((values as object | null) ?? {})
    if (!list.every((one) => typeof one === 'string')) throw new StatusError(400, 'invalid filter')
    found.set(name, list as string[])
  }
  return found
}

/** True when the filter isn't set, or one of its values fits. */
export function oneOf(filters: Filters, name: string, fits: (value: string) => boolean): boolean {
  const values = filters.get(name)
  return values === undefined || values.length === 0 || values.some(fits)
}

/** Every `label` value must hold: `key` or `key=value`; `label!` ones must not. */
export function labelsFit(filters: Filters, labels: Readonly<Record<string, string>> = {}): boolean {
  const holds = (wanted: string) => {
    const at = wanted.indexOf('=')
    return at < 0 ? Object.hasOwn(labels, wanted) : labels[wanted.slice(0, at)] === wanted.slice(at + 1)
  }
  return (filters.get('label') ?? []).every(holds) && !(filters.get('label!') ?? []).some(holds)
}

/** `true`, `1` and their like; undefined when the filter isn't set. Throws 400. */
export function flag(filters: Filters, name: string): boolean | undefined {
  const value = filters.get(name)?.[0]
  if (value === undefined) return undefined
  if (/^(1|t|true)$/i.test(value)) return true
  if (/^(0|f|false)$/i.test(value)) return false
  throw new StatusError(400, `invalid filter '${name}=${value}'`)
}

/** A time as the CLI writes it: epoch seconds with a fraction, or RFC 3339. Epoch milliseconds; undefined for none or 0. */
export function timeMs(text: string | undefined): number | undefined {
  if (text === undefined || text === '' || text === '0') return undefined
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000
  const at = Date.parse(text)
  if (Number.isNaN(at)) throw new StatusError(400, `invalid time: ${text.slice(0, 100)}`)
  return at
}

/** Query words that mean yes. */
export function yes(value: string | undefined): boolean {
  return value !== undefined && /^(1|t|true|yes)$/i.test(value)
}
