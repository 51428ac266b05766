/** The network of one run: attached, shared with another container, or nothing beside what the runtime makes. */
import { readFile } from 'node:fs/promises'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { ProcessFolder } from '../linux/process-folder.ts'
import type { Bundle } from '../shim/bundle.ts'
import type { ContainerNetworks, GuestNetwork, NetworkGuest } from './dependencies.ts'

const SHARED = 'container:'

/** A running container that gives its network to another. */
export interface Sharing extends Disposable {
  readonly first: ProcessFolder
  readonly bundle: Bundle
}

/** The name of the container whose network a container shares. */
export function sharedWith({ network }: CreateRequest): string | undefined {
  return network?.startsWith(SHARED) ? network.slice(SHARED.length) : undefined
}

/** Undefined for `host` and `none`. With `keep` the network of the last run is taken up again. Throws what attaching throws. */
export async function networkOfRun(
  guest: NetworkGuest,
  parts: { readonly networks?: ContainerNetworks },
  { sharing, keep, signal }: { sharing: Sharing | undefined; keep: boolean; signal: AbortSignal },
): Promise<GuestNetwork | undefined> {
  if (sharing !== undefined) {
    const { first, bundle } = sharing
    const [hosts, resolvConf] = await Promise.all([readFile(bundle.hosts, 'utf8'), readFile(bundle.resolvConf, 'utf8')])
    return { netnsPath: `${first.path}/ns/net`, hosts, resolvConf }
  }
  const mode = guest.request.network ?? 'host'
  if (mode === 'host' || mode === 'none') return undefined
  return parts.networks?.attach(guest, { keep, signal })
}
