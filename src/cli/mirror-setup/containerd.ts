/** containerd: a folder per registry with a `hosts.toml` (containerd, docs/hosts.md), and the plugin setting that names the folders. */
import { join } from 'node:path'
import { DarnerError } from '../../base/errors.ts'
import { block, type ClientSetup, checkedName, type Edit, readBelow, removeBlock, type SetupTarget } from './plan.ts'

const CONFIG = '/etc/containerd/config.toml'
const HOSTS = '/etc/containerd/certs.d'
const PLUGINS: Readonly<Record<string, string>> = {
  '2': 'io.containerd.grpc.v1.cri',
  '3': 'io.containerd.cri.v1.images',
}

export const containerd: ClientSetup = {
  async plan(target) {
    const config = await readBelow(target.root, CONFIG)
    const known = /^\s*config_path\s*=\s*["']([^"']*)["']/m.exec(config ?? '')?.[1]
    const folder = known === undefined || known === '' ? HOSTS : (known.split(':')[0] ?? HOSTS)
    const edits: Edit[] = []
    const notes = [`ctr needs the folder named: ctr images pull --hosts-dir ${folder} REF`]
    if (known === undefined || known === '') {
      edits.push({ path: CONFIG, before: config, after: withFolder(config, folder) })
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

function withFolder(config: string | undefined, folder: string): string {
  const version = /^\s*version\s*=\s*(\d+)/m.exec(config ?? 'version = 2')?.[1] ?? '1'
  const plugin = PLUGINS[version]
  if (plugin === undefined)
    throw new DarnerError('UNSUPPORTED', `${CONFIG}: version ${version} is neither 2 nor 3`, {
      way: `set config_path = "${folder}" in its registry section by hand`,
    })
  if (config?.includes(`."${plugin}".registry`))
    throw new DarnerError('CONFLICT', `${CONFIG}: it has a registry section without config_path`, {
      way: `set config_path = "${folder}" there by hand; containerd refuses it beside registry.mirrors`,
    })
  const lines = [`[plugins."${plugin}".registry]`, `  config_path = "${folder}"`]
  const text = config ?? 'version = 2\n'
  return `${text.endsWith('\n') ? text : `${text}\n`}\n${block(lines)}`
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
