/** A file of its own: commands name it, and load no schema library for that. */
import type { UrlOrigin } from './origin.ts'

/** The place of blobs that hosts gave to the swarm themselves (`darner put`); nothing can be read there. */
export const PUT_ORIGIN: UrlOrigin = { kind: 'url', url: 'http://put.invalid/' }
