/** containerd: a folder per registry with a `hosts.toml` (containerd, docs/hosts.md), and the plugin setting that names the folders. */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { TomlTable } from 'smol-toml'
import { DarnerError } from '../../core/errors.ts'
import { block, type ClientSetup, checkedName, type Edit, readBelow, removeBlock, type SetupTarget } from './plan.ts'
import { firstValue, isTable, readToml, tableLines, tomlOf, valueAt } from './toml-text.ts'

const CONFIG = '/etc/containerd/config.toml'
const HOSTS = '/etc/containerd/certs.d'
const PLUGINS: Readonly<Record<string, string>> = {
  '2': 'io.containerd.grpc.v1.cri',
  '3': 'io.containerd.cri.v1.images',
}
/** Names that turn all of CRI off. */
const CRI = ['cri', 'io.containerd.grpc.v1.cri']
const BY_HAND = `set config_path = "${HOSTS}" in its registry section by hand`

export const containerd: ClientSetup = {
  async plan(target) {
    const config = await readBelow(target.root, CONFIG)
    const text = config ?? 'version = 2\n'
    const registry = registryOf(readToml(text, CONFIG))
    const folder = registry?.folder ?? HOSTS
    const edits: Edit[] = []
    const notes = [`ctr needs the folder named: ctr images pull --hosts-dir ${folder} REF`]
    if (registry === undefined) notes.push(`${CONFIG} stays as it is: it has the CRI plugin disabled`)
    else if (registry.folder === undefined) {
      edits.push({ path: CONFIG, before: config, after: withFolder(text, registry) })
      notes.push('restart containerd once, so that its CRI plugin reads config_path; later changes need no restart')
    }
    for (const { name, url } of target.upstreams) {
      const path = join(folder, checkedName(name), 'hosts.toml')
      const before = await readBelow(target.root, path)
      edits.push({ path, before, after: withHost(before, url, target) })
    }
    return { edits, notes }
  },
  remove: (path, text) => {
    const rest = removeBlock(text)
    return path.endsWith('/hosts.toml') && /^\s*server\s*=.*\s*$/.test(rest) ? undefined : rest
  },
}

/** What a configuration says of the folder of hosts. */
interface Registry {
  /** The name of the table that has `config_path`. */
  readonly table: readonly string[]
  /** The first of `config_path`; undefined where none is set. */
  readonly folder: string | undefined
}

/** Undefined where the CRI plugin is off. Throws HOST_UNABLE for what is no TOML, UNSUPPORTED for another version. */
function registryOf(config: TomlTable): Registry | undefined {
  const version = config.version ?? (Object.keys(config).length === 0 ? 2 : undefined)
  const plugin = PLUGINS[String(version)]
  const off = [config.disabled_plugins].flat()
  if ([...CRI, plugin].some((name) => name !== undefined && off.includes(name))) return undefined
  if (plugin === undefined)
    throw new DarnerError(
      'UNSUPPORTED',
      version === undefined
        ? `${CONFIG}: it has no version, which means version 1`
        : `${CONFIG}: version ${version} is neither 2 nor 3`,
      { way: BY_HAND },
    )
  const table = ['plugins', plugin, 'registry']
  const path = valueAt(config, [...table, 'config_path'])
  return { table, folder: (typeof path === 'string' && path.split(':')[0]) || undefined }
}

/** In the place of an empty `config_path`, else under the table's header, else in a table of its own at the end. Throws CONFLICT where a folder can't be set beside what is there. */
function withFolder(text: string, { table }: Registry): string {
  const config = readToml(text, CONFIG)
  const registry = valueAt(config, table)
  const conflict = (path: readonly string[]) =>
    new DarnerError('CONFLICT', `${CONFIG}: config_path can't be put beside ${path.slice(2).join('.')}`, {
      way: `${BY_HAND}, and what is there into hosts.toml files (containerd, docs/hosts.md)`,
    })
  // containerd's own default has tables of mirrors and of TLS that are empty
  const mirrors = [...table, 'mirrors']
  const configs = [...table, 'configs']
  const other =
    firstValue(valueAt(config, mirrors), mirrors) ??
    Object.keys(valueAt(config, configs) ?? {})
      .map((host) => [...configs, host, 'tls'])
      .map((tls) => firstValue(valueAt(config, tls), tls))
      .find((found) => found !== undefined)
  if (other !== undefined) throw conflict(other)
  const after = withSetting(text, table, Object.keys(config).length === 0 ? ['version = 2'] : [])
  // a table of dotted keys, or in braces, can't be opened again
  const read = tomlOf(after)
  const made = read instanceof Error ? undefined : valueAt(read, table)
  const wanted = { ...(isTable(registry) ? registry : {}), config_path: HOSTS }
  if (!isTable(made) || !isDeepStrictEqual({ ...made }, wanted)) throw conflict(table)
  return after
}

function withSetting(text: string, table: readonly string[], version: readonly string[]): string {
  const setting = `  config_path = "${HOSTS}"`
  const place = tableLines(text, table)
  if (place === undefined) {
    const header = `[plugins."${table[1]}".registry]`
    return `${text.endsWith('\n') || text === '' ? text : `${text}\n`}\n${block([...version, header, setting])}`
  }
  const lines = text.split('\n')
  const empty = place.keyAt('config_path')
  const [before, after] = [lines.slice(0, empty ?? place.header + 1), lines.slice((empty ?? place.header) + 1)]
  return `${before.join('\n')}\n\n${block([setting])}${after.join('\n')}`
}

/** The mirror's table stands first: hosts are tried in order, `server` last. */
function withHost(before: string | undefined, url: string, { mirror, scheme, authority }: SetupTarget): string {
  const text = removeBlock(before ?? `server = "${url}"\n`)
  const table = block([
    `[host."${scheme}://${mirror}"]`,
    '  capabilities = ["pull", "resolve"]',
    ...(authority === undefined ? [] : [`  ca = ${JSON.stringify(authority.path)}`]),
  ])
  const first = /^[ \t]*\[/m.exec(text)
  if (first === null) return `${text.endsWith('\n') || text === '' ? text : `${text}\n`}\n${table}`
  return `${text.slice(0, first.index)}\n${table}${text.slice(first.index)}`
}
