/** Composition root of `darner agent`: peer and engine in one process, joined by the peer's ContentSource. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Mirror, type Peer, registerPeerRoutes, registerPreheatRoutes } from '../../peer/index.ts'
import { systemClock } from '../core/clock.ts'
import type { AgentSettings } from '../core/config/schema.ts'
import { DarnerError } from '../core/errors.ts'
import { Scope } from '../core/scope.ts'
import { RegistrySchemes } from '../origin/registry-schemes.ts'
import { hasRoom, Reserve } from '../store/reserve.ts'
import { composeEngine } from './compose-engine.ts'
import { composePeer } from './compose-peer.ts'
import type { ComposeParts } from './compose-shared.ts'
import { listenLocal, localServer } from './local-server.ts'

export interface RunningAgent extends AsyncDisposable {
  readonly peer: Peer
  /** Undefined when it is off, or can't listen. */
  readonly mirror: Mirror | undefined
}

/** Starts an agent with all its parts; its socket answers once this resolves. Dispose it to stop; containers run on. */
export async function composeAgent(settings: AgentSettings, parts: ComposeParts): Promise<RunningAgent> {
  const { log, signal } = parts
  if (settings.engine) mustBeRoot()
  const scope = new Scope()
  try {
    const room = await roomToStart(settings.data)
    const { peer, mirror, originOptions } = await composePeer(settings, { ...parts, scope })
    signal?.throwIfAborted()
    const app = localServer({ log, engine: settings.engine })
    registerPeerRoutes(app, peer)
    const schemes = new RegistrySchemes(settings.upstream)
    registerPreheatRoutes(app, peer, { clock: systemClock, schemes })
    app.get('/v1/mirror', async () => {
      if (typeof mirror !== 'object')
        return mirror === undefined ? { state: 'off' } : { state: 'failed', trouble: mirror }
      return { state: 'on', ...mirror.status() }
    })
    if (settings.engine)
      await composeEngine(settings, { scope, log, app, content: peer.engine, originOptions, schemes })
    scope.defer(() => app.close())
    scope.own(await listenLocal(app, settings.socket))
    await room.keep()
    return { peer, mirror: typeof mirror === 'object' ? mirror : undefined, [Symbol.asyncDispose]: () => scope.close() }
  } catch (error) {
    await scope.close()
    throw error
  }
}

function mustBeRoot(): void {
  const user = process.geteuid?.()
  if (user === 0) return
  throw new DarnerError('HOST_UNABLE', `an agent that runs containers must run as root, not as user ${user}`, {
    way: 'run it as root, or with --no-engine, which only moves blobs, and with --data and --socket where this user may write',
  })
}

/** What a start writes: what it tries out, folders, records of what it mends. */
const START_BYTES = 4 * 1024 * 1024

/** An agent starts on a full disk too, where people want it to remove what fills that: by room that it kept back before. */
async function roomToStart(data: string): Promise<{ keep(): Promise<void> }> {
  const reserve = new Reserve(join(data, 'reserve'), START_BYTES)
  // nothing is tried in one that isn't there yet, or may not be a daemon's own
  const own = await stat(data).then(
    ({ mode, uid }) => uid === process.geteuid?.() && (mode & 0o077) === 0,
    () => false,
  )
  const back = own && !(await hasRoom(data, START_BYTES / 2))
  if (back) await reserve.giveUp()
  return { keep: () => reserve.take(data, { back }) }
}
