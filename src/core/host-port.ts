/** A host and a port as people write them: `10.0.0.7:7400`, `[::1]:7400`. */
import { isIP } from 'node:net'
import { DarnerError } from './errors.ts'

export interface HostPort {
  /** An IPv4 or IPv6 address, without brackets. */
  readonly host: string
  readonly port: number
}

/** Reads `IP:PORT`; IPv6 stands in brackets. Throws BAD_ARGUMENT. Port 0 means "any" where something listens. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3] ?? Number.NaN)
  const wanted = match?.[1] === undefined ? 4 : 6
  if (isIP(host) !== wanted || host.includes('%') || !(port <= 65535)) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `address ${JSON.stringify(text.slice(0, 120))} is not IP:PORT (IPv6 as [IP]:PORT)`,
    )
  }
  return { host, port }
}

/** The opposite of {@link parseHostPort}. */
export function formatHostPort({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}
