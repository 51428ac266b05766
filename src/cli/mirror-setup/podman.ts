/** podman, skopeo, buildah and cri-o: one drop-in file with a mirror per registry (containers-registries.conf(5)). */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../../core/errors.ts'
import { BEGIN, type ClientSetup, checkedName, END, pathName, readBelow, type SetupTarget, trustEdits } from './plan.ts'
import { readToml, valueAt } from './toml-text.ts'

const MAIN = '/etc/containers/registries.conf'
const FOLDER = '/etc/containers/registries.conf.d'
const DROP_IN = `${FOLDER}/50-darner-mirror.conf`

/** `note` says how a running client takes the change up. */
export function containersSetup(note: string): ClientSetup {
  return {
    async plan(target) {
      const taken = await prefixesElsewhere(target.root)
      for (const { name } of target.upstreams) {
        const path = taken.get(name)
        if (path === undefined) continue
        throw new DarnerError('CONFLICT', `${path} has a [[registry]] for ${name}, which a second one would replace`, {
          way: `add there: [[registry.mirror]] location = "${locationOf(name, target)}"${target.scheme === 'http' ? ' insecure = true' : ''}`,
        })
      }
      const before = await readBelow(target.root, DROP_IN)
      return {
        edits: [
          { path: DROP_IN, before, after: textOf(target) },
          ...(await trustEdits('/etc/containers/certs.d', target)),
        ],
        notes: [
          note,
          `credentials are looked up under the mirror's name: podman login ${target.mirror}, or private images come straight from their registry`,
        ],
      }
    },
    remove: () => undefined,
  }
}

function textOf(target: SetupTarget): string {
  const tables = target.upstreams.map(({ name, url }) =>
    [
      '[[registry]]',
      `prefix = "${checkedName(name)}"`,
      `location = "${name}"`,
      ...(url.startsWith('http://') ? ['insecure = true'] : []),
      '',
      '[[registry.mirror]]',
      `location = "${locationOf(name, target)}"`,
      ...(target.scheme === 'http' ? ['insecure = true'] : []),
    ].join('\n'),
  )
  return `${BEGIN}\n${tables.join('\n\n')}\n${END}\n`
}

/** These clients send no `ns`: the path names the upstream, also the default one, which an agent may change. */
function locationOf(name: string, { mirror }: SetupTarget): string {
  return `${mirror}/${pathName(name)}`
}

async function prefixesElsewhere(root: string): Promise<Map<string, string>> {
  let names: string[] = []
  try {
    names = (await readdir(join(root, FOLDER))).filter((name) => name.endsWith('.conf')).sort()
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
  const found = new Map<string, string>()
  for (const path of [MAIN, ...names.map((name) => join(FOLDER, name))]) {
    if (path === DROP_IN) continue
    const entries = readToml((await readBelow(root, path)) ?? '', path).registry
    for (const entry of Array.isArray(entries) ? entries : []) {
      const prefix = valueAt(entry, ['prefix']) ?? valueAt(entry, ['location'])
      if (typeof prefix === 'string') found.set(prefix, path)
    }
  }
  return found
}
