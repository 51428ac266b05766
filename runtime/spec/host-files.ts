/** The three files that a container gets from the engine: /etc/hostname, /etc/hosts and /etc/resolv.conf. */
import { readFile } from 'node:fs/promises'
import type { NetworkMode } from '../../src/wire/local-api.ts'

export interface HostFiles {
  readonly hostname: string
  readonly hosts: string
  readonly resolvConf: string
}

const LOCALHOST = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n'

/** Their contents. On the host's network a container sees the host's own names and resolvers. */
export async function hostFiles(facts: { hostname: string; network: NetworkMode }): Promise<HostFiles> {
  const hostname = `${facts.hostname}\n`
  const resolvConf = await readFile('/etc/resolv.conf', 'utf8').catch(() => '')
  if (facts.network === 'host') {
    return { hostname, hosts: await readFile('/etc/hosts', 'utf8').catch(() => LOCALHOST), resolvConf }
  }
  return { hostname, hosts: `${LOCALHOST}127.0.1.1\t${facts.hostname}\n`, resolvConf: '' }
}
