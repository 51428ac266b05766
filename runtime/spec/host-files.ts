/** The three files that a container gets from the engine: /etc/hostname, /etc/hosts and /etc/resolv.conf. */
import { readFile } from 'node:fs/promises'
import type { NetworkMode } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'

export interface HostFiles {
  readonly hostname: string
  readonly hosts: string
  readonly resolvConf: string
}

const LOCALHOST = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n'

/** Their contents. On the host's network a container sees the host's own names and resolvers. Throws BAD_ARGUMENT for `host-gateway` where there is none. */
export async function hostFiles(facts: {
  hostname: string
  network: NetworkMode
  /** `NAME:ADDRESS`, put at the end of the hosts file; on the host's network, `host-gateway` is its loopback. */
  extraHosts?: readonly string[]
}): Promise<HostFiles> {
  const extra = (facts.extraHosts ?? []).map((one) => hostLine(one, facts.network)).join('')
  const hostname = `${facts.hostname}\n`
  if (facts.network === 'host') {
    const resolvConf = await readFile('/etc/resolv.conf', 'utf8').catch(() => '')
    return { hostname, hosts: `${await readFile('/etc/hosts', 'utf8').catch(() => LOCALHOST)}${extra}`, resolvConf }
  }
  return { hostname, hosts: `${LOCALHOST}127.0.1.1\t${facts.hostname}\n${extra}`, resolvConf: '' }
}

function hostLine(text: string, network: NetworkMode): string {
  const at = text.search(/[:=]/)
  const name = text.slice(0, at)
  const address = text.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
  if (address !== 'host-gateway') return `${address}\t${name}\n`
  if (network === 'host') return `127.0.0.1\t${name}\n`
  throw new DarnerError('BAD_ARGUMENT', `extra host ${name}: the container has no gateway`)
}
