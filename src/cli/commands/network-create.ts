/** `darner network create`: a network whose containers find each other by name; prints its id. */

import type { NetworkCreate, SubnetConfig } from '../../api/networks-api.ts'
import { DarnerError } from '../../core/errors.ts'
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'
import { text, texts } from '../option-values.ts'

export const action: Action = async (args, options, context) => {
  const [name = ''] = args
  const driver = text(options, 'driver') ?? 'bridge'
  if (driver !== 'bridge')
    throw new DarnerError('UNSUPPORTED', `network driver ${driver} is not offered`, {
      way: 'make a bridge, or put a conflist with another CNI plugin into a directory of --cni-config',
    })
  for (const [name, flag, only] of [
    ['scope', '--scope', 'local'],
    ['ipamDriver', '--ipam-driver', 'default'],
  ] as const) {
    const given = text(options, name) ?? only
    if (given !== only) throw new DarnerError('UNSUPPORTED', `${flag} ${given} is not offered: only ${only} is`)
  }
  const subnets = subnetsOf(options)
  const labels = Object.fromEntries(
    texts(options, 'label').map((one) => [one.split('=')[0] ?? '', one.split('=').slice(1).join('=')]),
  )
  const request: NetworkCreate = {
    name,
    ...(subnets.length > 0 ? { subnets } : {}),
    ...(options.ipv6 === true ? { ipv6: true } : {}),
    ...(options.internal === true ? { internal: true } : {}),
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
  }
  const made = await new NetworkClient({ socket: context.socket }).create(request, { signal: context.signal })
  context.stdout.write(`${made.id}\n`)
  return 0
}

/** Gateways, ranges and auxiliary addresses go with the subnet of their family. */
function subnetsOf(options: Readonly<Record<string, unknown>>): SubnetConfig[] {
  const family = (text: string) => text.includes(':')
  const subnets = texts(options, 'subnet')
  const rest = (name: string, subnet: string) => texts(options, name).find((one) => family(one) === family(subnet))
  const kept = texts(options, 'auxAddress').map((one) => {
    const [, name = '', address = ''] = /^([^=]+)=(.+)$/.exec(one) ?? []
    if (name === '') throw new DarnerError('BAD_ARGUMENT', `--aux-address ${one}: NAME=ADDRESS is wanted`)
    return [name, address] as const
  })
  for (const list of [texts(options, 'gateway'), texts(options, 'ipRange'), kept.map(([, address]) => address)])
    for (const one of list)
      if (!subnets.some((subnet) => family(subnet) === family(one)))
        throw new DarnerError('BAD_ARGUMENT', `${one}: it is in none of the subnets`)
  return subnets.map((subnet) => {
    const [gateway, ipRange] = [rest('gateway', subnet), rest('ipRange', subnet)]
    const auxiliary = Object.fromEntries(kept.filter(([, address]) => family(address) === family(subnet)))
    return {
      subnet,
      ...(gateway === undefined ? {} : { gateway }),
      ...(ipRange === undefined ? {} : { ipRange }),
      ...(Object.keys(auxiliary).length > 0 ? { auxiliary } : {}),
    }
  })
}
