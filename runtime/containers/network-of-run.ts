/** The network of one run: attached, shared with another container, or nothing beside what the runtime makes. */
import { readFile } from 'node:fs/promises'
import type { Bundle } from '../shim/bundle.ts'
import type { ContainerNetworks, GuestNetwork, NetworkGuest } from './dependencies.ts'

const SHARED = 'container:'

/** Undefined for `host` and `none`. With `keep` the network of the last run is taken up again. Throws what attaching throws, and STATE_INVALID for a container to share with that doesn't run. */
export async function networkOfRun(
  guest: NetworkGuest,
  parts: {
    readonly networks?: ContainerNetworks
    readonly sharing: (reference: string) => { readonly pid: number; readonly bundle: Bundle }
  },
  { keep, signal }: { keep: boolean; signal: AbortSignal },
): Promise<GuestNetwork | undefined> {
  const mode = guest.request.network ?? 'host'
  if (mode.startsWith(SHARED)) {
    const { pid, bundle } = parts.sharing(mode.slice(SHARED.length))
    const [hosts, resolvConf] = await Promise.all([readFile(bundle.hosts, 'utf8'), readFile(bundle.resolvConf, 'utf8')])
    return { netnsPath: `/proc/${pid}/ns/net`, hosts, resolvConf }
  }
  if (mode === 'host' || mode === 'none') return undefined
  return parts.networks?.attach(guest, { keep, signal })
}
