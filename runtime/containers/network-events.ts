/** Events of a run's networks, as docker orders them: connected before its start, disconnected after its end. */
import { unattached } from '../network/targets.ts'
import type { ContainerNetworks } from './dependencies.ts'
import type { EventSink } from './events.ts'
import type { ContainerRecord } from './record.ts'

/** Says nothing of one that shares another's network, and of one whose network an upgrade keeps. */
export function tellNetworks(
  { id, request, upgrade }: ContainerRecord,
  action: 'connect' | 'disconnect',
  { events, networks }: { readonly events: EventSink; readonly networks?: ContainerNetworks | undefined },
): void {
  if (upgrade !== undefined) return
  const mode = request.network ?? 'host'
  const on =
    mode === 'host' || mode === 'none'
      ? [{ id: unattached(mode).id, name: mode, type: mode === 'none' ? 'null' : mode }]
      : (networks?.attached(id) ?? [])
  for (const one of on)
    events.emit({ type: 'network', action, id: one.id, attributes: { container: id, name: one.name, type: one.type } })
}
