/** podman, skopeo, buildah and cri-o: one drop-in file with a mirror per registry (containers-registries.conf(5)). */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../../base/errors.ts'
import { BEGIN, type ClientSetup, checkedName, END, pathName, readBelow, type SetupTarget, trustEdits } from './plan.ts'

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

/** These clients send no `ns`: the path names every upstream but the default. */
function locationOf(name: string, { mirror, upstreams }: SetupTarget): string {
  return name === upstreams[0]?.name ? mirror : `${mirror}/${pathName(name)}`
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
    const text = (await readBelow(root, path)) ?? ''
    for (const table of text.split(/^\s*\[\[registry\]\]\s*$/m).slice(1)) {
      const own = table.split(/^\s*\[/m)[0] ?? ''
      const name = /^\s*prefix\s*=\s*["']([^"']+)["']/m.exec(own) ?? /^\s*location\s*=\s*["']([^"']+)["']/m.exec(own)
      if (name?.[1] !== undefined) found.set(name[1], path)
    }
  }
  return found
}
