/** The options of `darner run` that are about its network, as a request. */

import type { CreateRequest } from '../api/containers-api.ts'
import type { EndpointRequest, PortRequest, Protocol } from '../api/networks-api.ts'
import { DarnerError } from '../core/errors.ts'
import { text, texts } from './option-values.ts'

type Options = Readonly<Record<string, unknown>>
const MOST_PORTS = 1000

/** Throws BAD_ARGUMENT. */
export function networkOf(options: Options): Partial<CreateRequest> {
  const network = text(options, 'network')
  const endpoint = endpointOf(options, 'networkAlias')
  const publish = texts(options, 'publish').flatMap(parsePublish)
  const extraHosts = texts(options, 'addHost')
  const servers = texts(options, 'dns')
  return {
    ...(network === undefined ? {} : { network }),
    ...(Object.keys(endpoint).length > 0 ? { endpoint } : {}),
    ...(publish.length > 0 ? { publish } : {}),
    ...(extraHosts.length > 0 ? { extraHosts } : {}),
    ...(servers.length > 0 ? { dns: { servers } } : {}),
  }
}

export function endpointOf(options: Options, aliasOption: string): EndpointRequest {
  const [aliases, ipv4, ipv6] = [texts(options, aliasOption), text(options, 'ip'), text(options, 'ip6')]
  const linkLocal = texts(options, 'linkLocalIp')
  return {
    ...(aliases.length > 0 ? { aliases } : {}),
    ...(ipv4 === undefined ? {} : { ipv4 }),
    ...(ipv6 === undefined ? {} : { ipv6 }),
    ...(linkLocal.length > 0 ? { linkLocal } : {}),
  }
}

/** `[[IP:]HOST:]CONTAINER[/PROTOCOL]`; HOST and CONTAINER may be ranges of the same length. Throws BAD_ARGUMENT. */
export function parsePublish(given: string): PortRequest[] {
  const bad = (why: string) => new DarnerError('BAD_ARGUMENT', `publish ${JSON.stringify(given)}: ${why}`)
  const [, ports = '', protocol = 'tcp'] = /^(.*?)(?:\/([a-z]+))?$/.exec(given) ?? []
  if (protocol !== 'tcp' && protocol !== 'udp') throw bad(`protocol ${protocol} is not tcp or udp`)
  const found = /^(?:(?:(\[[0-9a-fA-F:]+\]|[0-9.]+):)?(\d*(?:-\d+)?):)?(\d+(?:-\d+)?)$/.exec(ports)
  if (!found) throw bad('it is not [[IP:]HOST:]CONTAINER[/PROTOCOL]')
  const hostIp = found[1]?.replace(/^\[|\]$/g, '')
  if (hostIp !== undefined && addressFamily(hostIp) === 0) throw bad(`${hostIp} is not an IP address`)
  const inside = range(found[3] ?? '')
  const outside = found[2] === undefined || found[2] === '' ? undefined : range(found[2])
  if (!inside || (found[2] && !outside)) throw bad('ports go from 1 to 65535')
  if (outside && outside.length !== inside.length) throw bad('the ranges are not of the same length')
  if (inside.length > MOST_PORTS) throw bad(`more than ${MOST_PORTS} ports`)
  return inside.map((containerPort, at) => {
    const hostPort = outside?.[at]
    return {
      containerPort,
      ...(hostPort === undefined ? {} : { hostPort }),
      ...(hostIp === undefined ? {} : { hostIp }),
      protocol: protocol as Protocol,
    }
  })
}

function range(text: string): number[] | undefined {
  const [first = 0, last = first] = text.split('-').map(Number)
  if (first < 1 || last > 65_535 || last < first) return undefined
  return Array.from({ length: last - first + 1 }, (_, at) => first + at)
}

/** 4, 6, or 0 for what is no address. node:net and its streams cost each start 5 ms: they are for a line that names an address. */
const addressFamily = (text: string): number => process.getBuiltinModule('node:net').isIP(text)
