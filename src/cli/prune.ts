/** Deleting what isn't used: asks first, names what went, adds up what came free. */
import { agreed } from './consent.ts'
import type { CommandContext } from './context.ts'
import { DockerClient, filtersOf } from './docker-client.ts'
import { size } from './format/words.ts'
import { texts } from './option-values.ts'

const KINDS = {
  container: { path: '/containers/prune', member: 'ContainersDeleted', warn: "all containers that don't run" },
  network: { path: '/networks/prune', member: 'NetworksDeleted', warn: 'all networks that no container is on' },
  image: { path: '/images/prune', member: 'ImagesDeleted', warn: 'all images that have no name' },
  volume: { path: '/volumes/prune', member: 'VolumesDeleted', warn: 'all anonymous volumes that no container has' },
} as const

interface Pruned {
  readonly SpaceReclaimed?: number
  readonly [member: string]: unknown
}

/** With `--force` nobody is asked. Throws BAD_ARGUMENT when there is nobody to ask. */
export async function prune(
  kinds: readonly (keyof typeof KINDS)[],
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<number> {
  const all = options.all === true
  const warnings = kinds.map((kind) => {
    if (all && kind === 'image') return 'all images that no container uses'
    return all && kind === 'volume' ? 'all volumes that no container has' : KINDS[kind].warn
  })
  if (options.force !== true && !(await agreed(willDelete(warnings), context))) return 1
  const client = new DockerClient({ socket: context.socket })
  let bytes = 0
  for (const kind of kinds) {
    const { path, member } = KINDS[kind]
    const words = texts(options, 'filter')
    if (kind === 'image' && all) words.push('dangling=false')
    if (kind === 'volume' && all && kinds.length === 1) words.push('all=true')
    const found = await client.json<Pruned>('POST', path, { query: filtersOf(words), signal: context.signal })
    bytes += found.SpaceReclaimed ?? 0
    for (const one of (found[member] ?? []) as (string | Record<string, string>)[])
      context.stdout.write(typeof one === 'string' ? `${one}\n` : `${Object.entries(one).flat().join(': ')}\n`)
  }
  if (kinds.some((kind) => kind !== 'network')) context.stdout.write(`Total reclaimed space: ${size(bytes, 4)}\n`)
  return 0
}

function willDelete(warnings: readonly string[]): string {
  return `This will delete:\n${warnings.map((one) => `  - ${one}\n`).join('')}`
}
