/** Public entry of the engine room, for composition roots and tests. */
export type { ImageStore, RecordSpace, ResolvedImage, RootfsStore } from './containers/ports.ts'
export { Images } from './images/images.ts'
export { registerImageRoutes } from './images/routes.ts'
export { registerEngineRoutes } from './local-api.ts'
export { Runtime, type RuntimeOptions, type RuntimeParts } from './runtime.ts'
export { openSnapshotter } from './snapshots/snapshotter.ts'
