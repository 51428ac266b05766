/** Public entry of the engine room, for composition roots and tests. */

export { registerEngineRoutes } from './container-routes.ts'
export type { ImageStore, RecordSpace, ResolvedImage, RootfsStore } from './containers/dependencies.ts'
export { mountDockerApi } from './engine-api/mount.ts'
export { openDockerApi } from './engine-api/server.ts'
export { registerImageRoutes } from './images/image-routes.ts'
export { Images } from './images/images.ts'
export { careForLayers } from './images/layer-care.ts'
export { OwnBlobs } from './images/own-blobs.ts'
export { registerNetworkRoutes } from './network/network-routes.ts'
export { Networks } from './network/networks.ts'
export { Runtime, type RuntimeOptions, type RuntimeParts } from './runtime.ts'
export { openSnapshotter } from './snapshots/snapshotter.ts'
