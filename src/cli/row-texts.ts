/** How arguments, values and defaults of the command table are written in help and docs. */
import type { Setting } from '../core/config/schema.ts'
import type { ArgumentRow } from './rows/shape.ts'

export function argumentText({ name, optional, many }: ArgumentRow): string {
  const text = many ? `${name}...` : name
  return optional ? `[${text}]` : `<${text}>`
}

/** What stands for a setting's value in help and docs: `SIZE`, `IP:PORT`. */
export function valueName(setting: Setting): string {
  if (setting.kind === 'choice') return setting.choices.join('|')
  if (setting.kind === 'map') return 'NAME=VALUE'
  if (setting.kind === 'list') return 'VALUE'
  const names = {
    bytes: 'SIZE',
    rate: 'RATE',
    duration: 'DURATION',
    address: 'IP:PORT',
    path: 'PATH',
    secret: 'TOKEN',
    proxy: 'URL',
    percent: 'PERCENT',
  }
  return setting.unit ? names[setting.unit] : setting.kind === 'integer' ? 'N' : 'TEXT'
}

/** A default as a person writes it. */
export function defaultText(setting: Setting): string {
  const { default: value } = setting
  if (value === '' || (typeof value === 'object' && Object.keys(value as object).length === 0)) return ''
  const text =
    typeof value === 'object'
      ? Object.entries(value as object)
          .map(([name, one]) => (Array.isArray(value) ? one : `${name}=${one}`))
          .join(', ')
      : String(value)
  return ` [default: ${text}]`
}
