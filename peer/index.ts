/** The peer's public entry, for the composition roots and tests. */
export { openExchange } from './lane/exchange.ts'
export { RateLimits } from './limits/limits.ts'
export { registerPeerRoutes } from './local-api.ts'
export { type Mirror, type MirrorStatus, openMirror } from './mirror/server.ts'
export { authorityIn, mirrorTls } from './mirror/tls.ts'
export { openPeer, type Peer } from './peer.ts'
export { registerPreheatRoutes } from './preheat-api.ts'
