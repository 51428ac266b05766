/** A network as users see it, with its containers. */
import type { EndpointView, NetworkView } from '../../src/api/networks-api.ts'
import { endpointView } from './endpoint-view.ts'
import type { SandboxRecord } from './records.ts'
import { isV6, parseSubnet } from './subnets.ts'
import type { Target } from './targets.ts'

export function networkView(target: Target, sandboxes: readonly SandboxRecord[]): NetworkView {
  const record = target.kind === 'bridge' ? target.record : undefined
  const on = sandboxes.filter((one) => one.owner !== '' && !one.gone && isOn(one, target.id))
  return {
    id: target.id,
    name: target.name,
    kind: target.kind,
    builtIn: target.kind === 'cni' || target.record.builtIn,
    internal: record?.internal ?? false,
    ipv6: record?.subnets.some((one) => isV6(parseSubnet(one.subnet, target.name))) ?? false,
    bridge: record?.bridge ?? '',
    subnets: record?.subnets ?? [],
    labels: record?.labels ?? {},
    createdAt: record?.createdAt ?? 0,
    containers: Object.fromEntries(
      on.flatMap((one) =>
        endpointsOf(one)
          .filter((end) => end.networkId === target.id)
          .map((end) => [one.owner, { ...end, name: one.name }]),
      ),
    ),
  }
}

/** The attachments that are made. */
export function endpointsOf(sandbox: SandboxRecord): EndpointView[] {
  return sandbox.endpoints.flatMap((one) => endpointView(one) ?? [])
}

export function isOn(sandbox: SandboxRecord, networkId: string): boolean {
  return sandbox.endpoints.some((one) => one.networkId === networkId)
}
