/** The piece exchange as both daemons use it: TLS lane, libp2p fallback, rate limits. */
import { openExchange, type RateLimits } from '../../peer/index.ts'
import type { Clock } from '../core/clock.ts'
import type { PeerId, PieceExchange, Shelf } from '../core/contracts/exchange.ts'
import { type Log, roomLog } from '../core/log.ts'
import { spelledLanes } from '../exchange/transport/announced-lanes.ts'
import type { Identity } from '../protocol/identity.ts'
import type { Node } from '../protocol/node.ts'

export interface LaneParts {
  readonly identity: Identity
  readonly node: Node
  readonly clock: Clock
  readonly log: Log
}

/** Opens exchanges over a shelf; the limits are the host's, shared by all of them. */
export function laneOpener(
  listen: string,
  limits: RateLimits,
  parts: LaneParts,
): (shelf: Shelf, admit: (peer: PeerId) => boolean) => Promise<PieceExchange> {
  const { identity, node, clock, log } = parts
  return async (shelf, admit) => {
    const exchange = await openExchange(
      { listen },
      { identity, shelf, admit, limits, clock, node, log: roomLog(log, 'exchange') },
    )
    return {
      lanes: spelledLanes(exchange.lanes, node.multiaddrs),
      open: (parent, task, options) => exchange.open(parent, task, options),
      drop: (peer, why) => exchange.drop(peer, why),
      [Symbol.asyncDispose]: () => exchange[Symbol.asyncDispose](),
    }
  }
}
