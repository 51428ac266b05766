/** The flags of a command, and what may stand for their values. */
import { type Role, type Setting, settingsOf } from '../../core/config/schema.ts'
import { valueName } from '../row-texts.ts'
import type { CommandRow, NameKind, OptionRow } from '../rows/shape.ts'

/** What may stand for an argument or a value. */
export interface Place {
  readonly words?: readonly string[]
  readonly names?: readonly NameKind[]
  readonly files?: boolean
}

export interface Flag {
  readonly long: string
  readonly short: string | undefined
  readonly summary: string
  /** Of its value; undefined for a flag that takes none as the next word. */
  readonly value: Place | undefined
}

const SOCKET: Flag = { long: '--socket', short: undefined, summary: "the agent's socket", value: { files: true } }
const DEBUG = flag('--debug', 'print the chain of causes of an error')
const HELP = flag('--help', 'show help', 'h')

/** Those ahead of a command. */
export const PROGRAM_FLAGS: readonly Flag[] = [SOCKET, DEBUG, flag('--version', 'print the version', 'V'), HELP]

/** Every flag that the command offers, `--help` included. */
export function flagsOf(row: CommandRow): Flag[] {
  const offered = (row.options ?? []).filter(({ refused, unoffered }) => refused === undefined && unoffered !== true)
  return [
    ...offered.map(optionFlag),
    ...(row.settings === undefined ? [] : settingFlags(row.settings, row.only)),
    ...(row.client ? [SOCKET] : []),
    DEBUG,
    HELP,
  ]
}

function flag(long: string, summary: string, short?: string): Flag {
  return { long, short, summary, value: undefined }
}

function optionFlag(option: OptionRow): Flag {
  const long = /--[a-z0-9-]+/.exec(option.flags)?.[0] ?? ''
  const placeholder = /<(.*)>/.exec(option.flags)?.[1]
  return {
    long,
    short: /^-([a-zA-Z]),/.exec(option.flags)?.[1],
    summary: option.summary,
    value: placeholder === undefined ? undefined : placeOf(placeholder, option),
  }
}

/** Placeholders that stand for a path of this host. */
const PATHS = ['FILE', 'DIR', 'PATH', 'FROM', 'TO']

/** What the row says, choices of the placeholder, or paths. */
export function placeOf(placeholder: string, { words, names }: Pick<OptionRow, 'words' | 'names'>): Place {
  const choices = /^[a-z-]+(\|[a-z-]+)*$/.test(placeholder) ? placeholder.split('|') : undefined
  const known = words ?? choices
  return {
    ...(known === undefined ? {} : { words: known }),
    ...(names === undefined ? {} : { names }),
    ...(PATHS.includes(placeholder) ? { files: true } : {}),
  }
}

function settingFlags(role: Role, only: readonly string[] | undefined): Flag[] {
  const settings = settingsOf(role).filter(({ key }) => only === undefined || only.includes(key))
  const config: Flag = { long: '--config', short: 'c', summary: 'settings file', value: { files: true } }
  return [config, ...settings.map(settingFlag)]
}

function settingFlag(setting: Setting): Flag {
  const { description, kind } = setting
  if (kind !== 'boolean')
    return { long: setting.flag, short: undefined, summary: description, value: placeOf(valueName(setting), {}) }
  // the form that changes the default
  const off = setting.default === true
  return flag(
    off ? setting.flag.replace('--', '--no-') : setting.flag,
    off ? (setting.off ?? description) : description,
  )
}
