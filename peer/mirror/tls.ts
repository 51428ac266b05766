/** TLS on the mirror itself: with a certificate that it makes, or is given. */
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { readPems } from '../../src/protocol/pem.ts'
import { Authority, type ServerCertificate } from './authority.ts'

export interface MirrorTls extends ServerCertificate {
  /** The file with the authority that clients have to trust; undefined where they know it already. */
  readonly authority: string | undefined
}

/** The authority of `make`, below the agent's data. */
export function authorityFolder(data: string): string {
  return join(data, 'mirror-tls')
}

/** A certificate for the mirror's own names, by this agent's authority. `host` is what it listens on. */
export async function madeTls(authority: Authority, host: string): Promise<MirrorTls> {
  const names = new Set(['127.0.0.1', '::1', 'localhost', hostname()])
  if (host !== '0.0.0.0' && host !== '::') names.add(host)
  return { ...(await authority.issue([...names])), authority: authority.path }
}

/**
 * A given certificate: `tls.crt` (with its chain) and `tls.key` in a folder, with `ca.crt` beside them where clients must trust its
 * authority. Throws CONFIG_INVALID, HOST_UNABLE.
 */
export async function givenTls(folder: string): Promise<MirrorTls> {
  const { cert, key, ca } = await readPems(folder)
  if (cert === undefined || key === undefined)
    throw new DarnerError('CONFIG_INVALID', `${folder}: tls.crt and tls.key are not both there`)
  return { cert, key, authority: ca === undefined ? undefined : join(folder, 'ca.crt') }
}

/** As the setting says: `off`, `make`, or a folder. `authority` makes this agent's own when it is needed. */
export async function mirrorTls(
  setting: string,
  host: string,
  authority: () => Promise<Authority>,
): Promise<MirrorTls | undefined> {
  if (setting === 'off') return undefined
  return setting === 'make' ? await madeTls(await authority(), host) : await givenTls(setting)
}

/** This agent's authority, opened once, when first asked for. */
export function authorityIn(data: string, parts: { clock: Clock }): () => Promise<Authority> {
  let opened: Promise<Authority> | undefined
  return () => {
    opened ??= Authority.open(authorityFolder(data), parts)
    return opened
  }
}
