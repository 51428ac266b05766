/** containerd: a folder per registry with a `hosts.toml` (containerd, docs/hosts.md), and the plugin setting that names the folders. */
import { join } from 'node:path'
import { DarnerError } from '../../core/errors.ts'
import { block, type ClientSetup, checkedName, type Edit, readBelow, removeBlock, type SetupTarget } from './plan.ts'
import { isBelow, type TomlLine, tomlLines } from './toml-lines.ts'

const CONFIG = '/etc/containerd/config.toml'
const HOSTS = '/etc/containerd/certs.d'
const PLUGINS: Readonly<Record<string, string>> = {
  '2': 'io.containerd.grpc.v1.cri',
  '3': 'io.containerd.cri.v1.images',
}

export const containerd: ClientSetup = {
  async plan(target) {
    const config = await readBelow(target.root, CONFIG)
    const registry = registryOf(config ?? 'version = 2\n')
    const folder = registry?.folder ?? HOSTS
    const edits: Edit[] = []
    const notes = [`ctr needs the folder named: ctr images pull --hosts-dir ${folder} REF`]
    if (registry === undefined) notes.push(`${CONFIG} stays as it is: it has the CRI plugin disabled`)
    else if (registry.folder === undefined) {
      edits.push({ path: CONFIG, before: config, after: withFolder(config, registry) })
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

/** Where a configuration says which folder has the hosts, or could. */
interface Registry {
  /** The table's name, as a header has it. */
  readonly header: string
  /** The first of `config_path`; undefined where none is set. */
  readonly folder: string | undefined
  /** The line of a `config_path` that is empty, as containerd's own default configuration has it. */
  readonly emptyAt: number | undefined
  /** The line of the table's header, if it has one. */
  readonly headerAt: number | undefined
}

/** Undefined where the CRI plugin is off. Throws UNSUPPORTED for another version, CONFLICT where a folder can't be set beside what is there. */
function registryOf(config: string): Registry | undefined {
  const lines = tomlLines(config)
  const key = (...path: string[]) => lines.find((one) => one.kind === 'key' && isSame(one.path, path))
  if (/["'](io\.containerd\.grpc\.v1\.)?cri["']/.test(key('disabled_plugins')?.value ?? '')) return undefined
  const version = key('version')?.value ?? (lines.length === 0 ? '2' : undefined)
  const plugin = PLUGINS[version ?? '']
  const byHand = `set config_path = "${HOSTS}" in its registry section by hand`
  if (plugin === undefined)
    throw new DarnerError(
      'UNSUPPORTED',
      version === undefined
        ? `${CONFIG}: it has no version, which means version 1`
        : `${CONFIG}: version ${version} is neither 2 nor 3`,
      { way: byHand },
    )
  const table = ['plugins', plugin, 'registry']
  const own = lines.filter(({ path }) => isBelow(path, table))
  const path = own.find((one) => one.kind === 'key' && isSame(one.path, [...table, 'config_path']))
  const headerAt = own.find((one) => one.kind === 'table' && isSame(one.path, table))?.at
  const folder = path?.value.split(':')[0] || undefined
  if (folder === undefined) {
    // containerd's own default has tables of mirrors and of TLS that are empty
    const other = own.find(
      (one) =>
        one.kind === 'key' &&
        (isBelow(one.path, [...table, 'mirrors']) ||
          (isBelow(one.path, [...table, 'configs']) && one.path.includes('tls')) ||
          // a table of dotted keys, or in braces, can't be opened again
          (path === undefined && headerAt === undefined && !hasHeaderFor(one, own))),
    )
    if (other !== undefined)
      throw new DarnerError('CONFLICT', `${CONFIG}: config_path can't be put beside ${other.path.slice(2).join('.')}`, {
        way: `${byHand}, and what is there into hosts.toml files (containerd, docs/hosts.md)`,
      })
  }
  return { header: `[plugins."${plugin}".registry]`, folder, emptyAt: path?.at, headerAt }
}

/** Whether a key stands under a header that is below the registry's table. */
function hasHeaderFor(key: TomlLine, own: readonly TomlLine[]): boolean {
  return own.some((one) => one.kind === 'table' && one.at < key.at && isBelow(key.path, one.path))
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && isBelow(one, other)
}

/** In the place of an empty `config_path`, else under the table's header, else in a table of its own at the end. */
function withFolder(config: string | undefined, { header, emptyAt, headerAt }: Registry): string {
  const text = config ?? 'version = 2\n'
  const version = tomlLines(text).length === 0 ? ['version = 2'] : []
  const setting = `  config_path = "${HOSTS}"`
  const at = emptyAt ?? headerAt
  if (at === undefined)
    return `${text.endsWith('\n') || text === '' ? text : `${text}\n`}\n${block([...version, header, setting])}`
  const lines = text.split('\n')
  const [before, after] = [lines.slice(0, emptyAt ?? at + 1), lines.slice(at + 1)]
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
