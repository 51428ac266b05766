/** The origin client of a command: the rights, certificates and proxies of the person who runs it. */
import { systemClock } from '../../core/clock.ts'
import type { Log } from '../../core/log.ts'
import { ownVersion } from '../../core/own-version.ts'
import { proxyFromEnv } from '../../origin/proxy-env.ts'
import { createOriginClient, type OriginClient } from '../../origin/registry-client.ts'
import { originGuard } from '../../origin/special-address.ts'
import type { CommandContext } from '../context.ts'
import type { Ways } from './order.ts'

/** Where clouds give out a machine's own credentials is refused here as in a daemon: a redirect may lead there. */
export async function originClient(ways: Pick<Ways, 'tls' | 'proxy'>, context: CommandContext): Promise<OriginClient> {
  const { tls, proxy } = ways
  return createOriginClient(
    {
      userAgent: `darner/${await ownVersion()}`,
      ...originGuard({ allowPrivate: true }),
      proxy: proxy === undefined ? proxyFromEnv(context.env) : () => proxy,
      ...(tls === undefined ? {} : { tls }),
    },
    { log: context.log as unknown as Log, clock: systemClock },
  )
}
