/** One setting's value from what a person wrote: a flag or variable's text, or a node of the file. */
import { Value } from 'typebox/value'
import { DarnerError } from '../errors.ts'
import type { Setting } from './schema.ts'
import { formatListen, parseBytes, parseDuration, parseListen, parseRate } from './units.ts'

const WORDS: Readonly<Record<string, boolean>> = {
  true: true,
  on: true,
  yes: true,
  '1': true,
  false: false,
  off: false,
  no: false,
  '0': false,
}

/** What a setting wants, as a clause: `a size such as 200M`. */
export function expected(setting: Setting): string {
  const { unit, kind, schema } = setting
  if (typeof schema.wanted === 'string') return schema.wanted
  if (unit === 'bytes') return 'a size such as 200M or 20GiB'
  if (unit === 'rate') return 'bytes per second, such as 20MiB/s'
  if (unit === 'duration') return 'a duration such as 30s or 5m'
  if (unit === 'address') return ['IP:PORT', ...setting.words].join(' or ')
  if (kind === 'choice') return setting.choices.join(', ')
  if (kind === 'boolean') return 'true or false'
  if (kind === 'integer') return `a whole number from ${schema.minimum} to ${schema.maximum}`
  if (kind === 'list') return 'a list of texts'
  if (kind === 'map') return 'a map of NAME to text'
  return 'a text'
}

/** The value that text means; lists and maps take several texts. Throws CONFIG_INVALID naming `where`. */
export function valueOfText(setting: Setting, texts: readonly string[], where: string): unknown {
  if (setting.kind === 'list') return checked(setting, texts, where)
  if (setting.kind === 'map') {
    const pairs = texts.map((text): [string, string] => {
      const at = text.indexOf('=')
      if (at < 1) throw invalid(setting, text, where, expected(setting))
      return [text.slice(0, at), text.slice(at + 1)]
    })
    return checked(setting, Object.fromEntries(pairs), where)
  }
  return checked(setting, scalar(setting, texts.at(-1) ?? ''), where)
}

/** The value that plain data (of the file, or a default) means. Throws CONFIG_INVALID naming `where`. */
export function valueOfData(setting: Setting, data: unknown, where: string): unknown {
  const words = setting.kind === 'boolean' || setting.kind === 'integer'
  return checked(setting, words && typeof data === 'string' ? scalar(setting, data) : data, where)
}

/** A number or switch from its text; what can't be read stays text, which the check then refuses. */
function scalar(setting: Setting, text: string): unknown {
  if (setting.kind === 'boolean') return WORDS[text.trim().toLowerCase()] ?? text
  if (setting.kind !== 'integer') return text
  if (setting.unit === 'bytes') return parseBytes(text) ?? text
  if (setting.unit === 'rate') return (setting.schema.minimum === 0 && text === 'off' ? 0 : parseRate(text)) ?? text
  if (setting.unit === 'duration') return parseDuration(text) ?? text
  return /^\d{1,15}$/.test(text.trim()) ? Number(text) : text
}

function checked(setting: Setting, value: unknown, where: string): unknown {
  if (!Value.Check(setting.schema as never, value)) throw invalid(setting, value, where, expected(setting))
  if (setting.unit !== 'address' || setting.words.includes(value as string)) return value
  const listen = parseListen(value as string)
  if (listen === undefined) throw invalid(setting, value, where, expected(setting))
  return formatListen(listen)
}

function invalid(setting: Setting, value: unknown, where: string, wanted: string): DarnerError {
  const first = Value.Errors(setting.schema as never, value)[0]
  const detail = first?.instancePath ? ` at ${first.instancePath}` : ''
  const each = setting.kind === 'list' && !Array.isArray(value) ? 'a list, each ' : ''
  const hidden = setting.unit === 'secret' || setting.unit === 'proxy'
  const seen = hidden ? 'something else' : (JSON.stringify(value) ?? 'nothing').slice(0, 160)
  return new DarnerError(
    'CONFIG_INVALID',
    `${where}: ${setting.key}${detail}: expected ${each}${wanted}, found ${seen}`,
    {
      details: { key: setting.key, where },
    },
  )
}
