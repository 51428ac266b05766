/** After a restart of the agent: what was recorded of networks is compared with the host, and what nobody needs goes. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { PortBinding } from '../../src/api/networks-api.ts'
import type { Log } from '../../src/core/log.ts'
import type { Bridges } from './bridges.ts'
import type { CniTarget } from './cni.ts'
import { portmapIds, removeIdlePortmap } from './host-rules.ts'
import type { NetnsFolder } from './netns.ts'
import type { NetworkRecord, SandboxRecord } from './records.ts'
import type { Sandboxes } from './sandboxes.ts'

export interface RecoverNetworksParts {
  readonly sandboxes: Sandboxes
  readonly folder: NetnsFolder
  readonly bridges: Bridges
  readonly networks: () => readonly NetworkRecord[]
  readonly log: Log
  readonly settle: (sandbox: SandboxRecord) => Promise<void>
  readonly restorePorts: (owner: string, ports: readonly PortBinding[]) => void
  readonly finishRemoval: (network: NetworkRecord) => Promise<void>
  readonly gc: (network: NetworkRecord, valid: readonly CniTarget[]) => Promise<void>
  readonly delPortmap: (network: NetworkRecord, id: string) => Promise<void>
}

type Waits = { readonly signal: AbortSignal }

/** Mends all, one bad sandbox never holding up the rest, and says what was mended. `live`: containers that run. */
export async function recoverNetworks(
  parts: RecoverNetworksParts,
  live: ReadonlySet<string>,
  { signal }: Waits,
): Promise<string[]> {
  const { sandboxes, folder, log } = parts
  const mended: string[] = []
  const attempt = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work()
      if (what !== '') mended.push(what)
    } catch (error) {
      log.error({ what, error }, 'network recovery failed')
    }
  }
  const hadSome = sandboxes.all().length > 0 || parts.networks().some((one) => one.up || one.removing === true)
  if (hadSome) parts.bridges.expectV6()
  for (const one of sandboxes.all()) {
    if (!one.gone && live.has(one.owner)) await attempt('', () => recoverLive(one, parts, mended, { signal }))
    else {
      const what = one.owner === '' && !one.gone ? '' : `network of ${one.name || one.id}: taken apart`
      await attempt(what, () => sandboxes.release(one.id, { signal }))
    }
  }
  const known = new Set(sandboxes.all().map((one) => one.id))
  for (const name of await folder.list())
    if (!known.has(name)) await attempt(`network namespace ${name}: had no record`, async () => folder.remove(name))
  if (!hadSome) return mended
  for (const network of parts.networks()) {
    const freed = network.up ? await parts.bridges.collectLeases(network, known) : []
    if (freed.length > 0) mended.push(`network ${network.name}: ${freed.join(', ')} were leased to nobody`)
    const valid = sandboxes.all().flatMap((one) => targetsOn(one, network.id))
    if (network.up && valid.length > 0) await attempt('', () => parts.gc(network, valid))
  }
  await attempt('', () => forgottenPorts(parts, known, mended, { signal }))
  for (const network of parts.networks()) {
    if (network.removing) await attempt(`network ${network.name}: removal finished`, () => parts.finishRemoval(network))
    else if (network.up && !parts.bridges.isUp(network.id))
      await attempt('', () => parts.bridges.lower(network, { signal }))
  }
  await attempt('', () => parts.bridges.reapply({ signal }))
  await removeIdlePortmap('ipv4', { signal })
  await removeIdlePortmap('ipv6', { signal })
  return mended
}

async function recoverLive(
  sandbox: SandboxRecord,
  { sandboxes, settle, restorePorts, log }: RecoverNetworksParts,
  mended: string[],
  { signal }: Waits,
): Promise<void> {
  restorePorts(sandbox.owner, sandbox.ports)
  let now = sandbox
  for (const half of sandbox.endpoints.filter((one) => one.result === undefined)) {
    now = await sandboxes.drop(sandbox.id, half.ifName, { signal })
    mended.push(`${sandbox.name}: half-done connection to ${half.network} undone`)
  }
  await settle(now)
  try {
    await sandboxes.check(now, { signal })
  } catch (error) {
    log.warn({ container: now.owner, error }, 'the network of a container is not as it was made')
    if (now.ports.length === 0) return
    await sandboxes.redo(now, 'portmap', { signal })
    mended.push(`${now.name}: its ports are published again`)
  }
}

/** Rules of portmap for attachments that have no record: an agent that lost its records. */
async function forgottenPorts(
  { networks, delPortmap }: RecoverNetworksParts,
  known: ReadonlySet<string>,
  mended: string[],
  { signal }: Waits,
): Promise<void> {
  for (const family of ['ipv4', 'ipv6'] as const) {
    for (const { network: name, id } of await portmapIds(family, { signal })) {
      const network = networks().find((one) => one.name === name && one.up)
      if (!network || known.has(id) || !/^[0-9a-f]{16}$/.test(id)) continue
      await delPortmap(network, id)
      mended.push(`network ${name}: ports of ${id}, which has no record, closed`)
    }
  }
}

function targetsOn(sandbox: SandboxRecord, networkId: string): CniTarget[] {
  return sandbox.endpoints
    .filter((one) => one.networkId === networkId)
    .map(({ ifName, runtimeConfig }) => ({ containerId: sandbox.id, netns: '', ifName, runtimeConfig }))
}

/** Plugins that a former agent started and that are still at it: they would make what is being undone. */
export async function endPlugins(ids: ReadonlySet<string>, pluginDirs: readonly string[]): Promise<void> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      if (!pluginDirs.includes(dirname(await readlink(`/proc/${name}/exe`)))) continue
      const [, id = ''] =
        /(?:^|\0)CNI_CONTAINERID=([0-9a-f]{16})\0/.exec(await readFile(`/proc/${name}/environ`, 'utf8')) ?? []
      if (ids.has(id)) process.kill(Number(name), 'SIGKILL')
    } catch {
      // ENOENT, ESRCH, EACCES: it ended meanwhile, or it is a kernel thread
    }
  }
}
