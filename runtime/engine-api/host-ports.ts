/** What docker's HostConfig says about ports: PortBindings -> published ports. */
import { type Static, Type } from 'typebox'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import { StatusError } from './errors.ts'
import { OptText } from './optional.ts'

export const PortBody = Type.Object({ HostIp: OptText(), HostPort: OptText() }, { additionalProperties: false })

/** Throws 400, and 501 for a protocol that is not published here. */
export function readPorts(
  asked: Readonly<Record<string, readonly Static<typeof PortBody>[] | null>> | null | undefined,
): NonNullable<CreateRequest['publish']> {
  const found: NonNullable<CreateRequest['publish']> = []
  for (const [key, bindings] of Object.entries(asked ?? {})) {
    const [, port, protocol = 'tcp'] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(key) ?? []
    if (port === undefined) throw new StatusError(400, `invalid port specification: "${key.slice(0, 100)}"`)
    if (protocol !== 'tcp' && protocol !== 'udp')
      throw new StatusError(501, `publishing ${protocol} ports is not offered`)
    for (const { HostIp, HostPort } of bindings ?? [{}]) {
      if (HostPort && !/^\d{1,5}$/.test(HostPort))
        throw new StatusError(400, `invalid port specification: "${HostPort}"`)
      found.push({
        containerPort: Number(port),
        protocol,
        ...(HostPort && HostPort !== '0' ? { hostPort: Number(HostPort) } : {}),
        ...(HostIp ? { hostIp: HostIp } : {}),
      })
    }
  }
  return found
}
