/** Settings from all their sources: flag, then environment, then file, then default; checked, completed and frozen. */
import { readFile } from 'node:fs/promises'
import { DarnerError, systemCode } from '../errors.ts'
import { nearest, readSettingsFile } from './file.ts'
import { valueOfData, valueOfText } from './parse.ts'
import { DEFAULT_FILES } from './paths.ts'
import { type Role, type Setting, type SettingsOf, settingsOf } from './schema.ts'
import { formatListen, parseListen } from './units.ts'

export interface LoadOptions {
  /**
   * Flags as commander parsed them, by key: text, a list of texts, or true and false. Keys that are no setting are left alone:
   * the flag parser has refused unknown flags already.
   */
  readonly flags?: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string | undefined>>
  /** The file of `--config`, which must be there; else `DARNER_CONFIG`; else `/etc/darner/<role>.yaml`, which need not be. */
  readonly file?: string
  readonly signal?: AbortSignal
}

export interface Loaded<T> {
  /** Frozen, also below the top. */
  readonly settings: T
  /** Where each value came from: `flag --data`, `environment DARNER_DATA`, `/etc/darner/agent.yaml line 2`, `default`. */
  readonly from: Readonly<Record<string, string>>
  /** `DARNER_…` variables that no setting has: named, not refused, since a cluster may inject some of its own. */
  readonly warnings: readonly string[]
}

/** Variables that belong to the command line itself, and those whose prefix is somebody else's. */
const OTHER_ENV = /^DARNER_(CONFIG|DEBUG|STAGE|TEST|HOOK)(_|$)/

/** Throws CONFIG_INVALID naming the flag, the variable, or file, line and key. */
export async function loadSettings<R extends Role>(role: R, options: LoadOptions = {}): Promise<Loaded<SettingsOf[R]>> {
  const settings = settingsOf(role)
  const env = options.env ?? {}
  const path = options.file ?? (env.DARNER_CONFIG || undefined)
  const file = await readSettingsFile(path ?? DEFAULT_FILES[role], settings, {
    wanted: path !== undefined,
    ...(options.signal ? { signal: options.signal } : {}),
  })
  const values: Record<string, unknown> = {}
  const from: Record<string, string> = {}
  for (const setting of settings) {
    const { key } = setting
    const given = fromFlag(setting, options.flags?.[key]) ?? fromEnv(setting, env[setting.env]) ?? file.get(key)
    values[key] = given ? given.value : valueOfData(setting, setting.default, 'default')
    from[key] = given?.where ?? 'default'
  }
  await complete(values, from)
  return { settings: freeze(values) as SettingsOf[R], from: freeze(from), warnings: strangers(env) }
}

interface Given {
  readonly value: unknown
  readonly where: string
}

function fromFlag(setting: Setting, flag: unknown): Given | undefined {
  if (flag === undefined) return undefined
  const where = `flag ${setting.flag}`
  if (typeof flag === 'boolean') return { value: flag, where }
  const texts = (Array.isArray(flag) ? flag : [flag]).map(String)
  return { value: valueOfText(setting, texts, where), where }
}

/** An empty variable counts as unset. Lists and maps are separated by commas. */
function fromEnv(setting: Setting, text: string | undefined): Given | undefined {
  if (text === undefined || text === '') return undefined
  const where = `environment ${setting.env}`
  const several = setting.kind === 'list' || setting.kind === 'map'
  const texts = several ? text.split(',').map((one) => one.trim()) : [text]
  return {
    value: valueOfText(
      setting,
      texts.filter((one) => one !== ''),
      where,
    ),
    where,
  }
}

/** Fills in what follows from other settings, and checks what spans several. */
async function complete(values: Record<string, unknown>, from: Record<string, string>): Promise<void> {
  if (values.laneListen === 'auto') {
    const p2p = parseListen(String(values.p2pListen))
    if (p2p)
      values.laneListen = formatListen({
        host: p2p.host,
        port: p2p.port === 0 || p2p.port === 65535 ? 0 : p2p.port + 1,
      })
  }
  if (Number(values.storeLow) > Number(values.storeHigh)) {
    throw new DarnerError(
      'CONFIG_INVALID',
      `storeLow ${values.storeLow} (${from.storeLow}) is above storeHigh ${values.storeHigh} (${from.storeHigh})`,
    )
  }
  const runtimes = values.runtime as Readonly<Record<string, string>> | undefined
  const chosen = String(values.defaultRuntime ?? 'auto')
  if (runtimes && chosen !== 'auto' && !(chosen in runtimes)) {
    throw new DarnerError(
      'CONFIG_INVALID',
      `defaultRuntime ${JSON.stringify(chosen)} (${from.defaultRuntime}) is not one of ${Object.keys(runtimes).join(', ')}`,
    )
  }
  for (const key of ['joinToken', 'originProxy']) {
    const text = values[key]
    if (typeof text === 'string' && text.startsWith('@')) values[key] = await readSecret(key, text.slice(1), from[key])
  }
}

/** Where what such a file holds comes from. */
const SECRET_WAYS: Readonly<Record<string, string>> = {
  joinToken:
    'write what `darner supernode token` prints on the host of the supernode into it, or leave it out where the supernode is --open',
  originProxy: 'write [http|https://][NAME:PASSWORD@]HOST[:PORT] into it',
}

async function readSecret(key: string, path: string, where = key): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    const code = systemCode(error)
    throw new DarnerError('CONFIG_INVALID', `${where}: cannot read the file ${path} (${code ?? 'failed'})`, {
      cause: error,
      ...(SECRET_WAYS[key] === undefined ? {} : { way: SECRET_WAYS[key] }),
    })
  }
}

function strangers(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = [...settingsOf('agent'), ...settingsOf('supernode')].map((setting) => setting.env)
  const strange = Object.keys(env).filter(
    (name) => name.startsWith('DARNER_') && !known.includes(name) && !OTHER_ENV.test(name),
  )
  return strange.map((name) => {
    const near = nearest(name, known)
    return `environment variable ${name} is not a setting${near === undefined ? '' : `; did you mean ${near}?`}`
  })
}

function freeze<T extends object>(value: T): Readonly<T> {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) freeze(inner)
  return Object.freeze(value)
}
