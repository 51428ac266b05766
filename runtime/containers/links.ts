/** Docker's legacy links: the names of other containers, in the environment and the hosts file of a container on the default network. */
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { NetworkingView } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { readImageConfig } from '../spec/image-config.ts'
import type { ContainerRecord } from './record.ts'

/** Another container, and what it has of networks while it runs. */
export interface Linked {
  readonly record: ContainerRecord
  readonly networking: NetworkingView | undefined
}

/** `NAME`, or `NAME:ALIAS`. */
export function parseLink(text: string): { readonly name: string; readonly alias: string } {
  const [name = '', alias = name] = text.replace(/^\//, '').split(':')
  return { name, alias }
}

/** Lines for /etc/hosts and NAME=VALUE for the environment. `find` throws NOT_FOUND. Throws STATE_INVALID for one that doesn't run. */
export function toldOfLinks(
  { name: owner, request }: Pick<ContainerRecord, 'name' | 'request'>,
  find: (reference: string) => Linked,
): { readonly hosts: string; readonly env: string[] } {
  const hosts: string[] = []
  const env: string[] = []
  for (const link of request.links ?? []) {
    const { name, alias } = parseLink(link)
    const { record, networking } = find(name)
    const address = networking?.endpoints.find((one) => one.network === (request.network ?? 'bridge'))?.ipv4 ?? ''
    if (address === '')
      throw new DarnerError(
        'STATE_INVALID',
        `Cannot link to a non running container: /${record.name} AS /${owner}/${alias}`,
      )
    const names = [...new Set([alias, record.request.hostname ?? record.id.slice(0, 12), record.name])]
    hosts.push(`${address}\t${names.join(' ')}\n`)
    env.push(...variables(record, alias, address, owner))
  }
  return { hosts: hosts.join(''), env }
}

const NOT_PASSED = new Set(['HOME', 'PATH'])

function variables(record: ContainerRecord, alias: string, address: string, owner: string): string[] {
  const prefix = alias.toUpperCase().replaceAll('-', '_')
  const image = readImageConfig(record.imageConfig, record.imageReference)
  const told = [`${prefix}_NAME=/${owner}/${alias}`]
  const ports = portsOf(record.request, image.exposedPorts)
  const [first] = ports
  if (first) told.push(`${prefix}_PORT=${first.protocol}://${address}:${first.port}`)
  for (const { port, protocol } of ports) {
    const one = `${prefix}_PORT_${port}_${protocol.toUpperCase()}`
    told.push(`${one}=${protocol}://${address}:${port}`, `${one}_ADDR=${address}`, `${one}_PORT=${port}`)
    told.push(`${one}_PROTO=${protocol}`)
  }
  for (const one of [...image.env, ...(record.request.env ?? [])])
    if (one.includes('=') && !NOT_PASSED.has(one.split('=', 1)[0] ?? '')) told.push(`${prefix}_ENV_${one}`)
  return told
}

function portsOf({ publish = [], docker }: CreateRequest, exposed: readonly string[]) {
  const asked = Object.keys((docker?.exposedPorts as object | undefined) ?? {})
  const published = publish.map(({ containerPort, protocol }) => `${containerPort}/${protocol}`)
  const keys = new Set([...exposed, ...asked, ...published].map((key) => (key.includes('/') ? key : `${key}/tcp`)))
  return [...keys]
    .map((key) => ({ port: Number(key.split('/')[0]), protocol: key.split('/')[1] ?? 'tcp' }))
    .toSorted((a, b) => a.port - b.port)
}
