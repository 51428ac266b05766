/** An origin that the daemons don't reach may be one that this person reaches by a proxy, as curl would. */
import { isDarnerError } from '../../core/errors.ts'

/** Whether that is why the agent failed: its error says so, and the environment names a proxy for the origin. */
export async function isBehindProxy(
  error: unknown,
  origin: { readonly url: string } | { readonly upstream: string },
  env: Readonly<Record<string, string | undefined>>,
): Promise<boolean> {
  if (!isDarnerError(error, 'ORIGIN_UNREACHABLE')) return false
  const { proxyFromEnv } = await import('../../origin/proxy-env.ts')
  return proxyFromEnv(env)(new URL('url' in origin ? origin.url : origin.upstream)) !== undefined
}
