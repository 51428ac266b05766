/** The peer's public entry, for the composition roots and tests. */
export { openExchange } from '../src/exchange/exchange.ts'
export { RateLimits } from '../src/exchange/limits/limits.ts'
export { type Mirror, type MirrorStatus, openMirror } from './mirror/server.ts'
export { authorityIn, mirrorTls } from './mirror/tls.ts'
export { openPeer, type Peer } from './peer.ts'
export { registerPeerRoutes } from './peer-routes.ts'
export { registerPreheatRoutes } from './preheat-routes.ts'
