/** The supernode's public entry, for the composition roots and tests. */
export { joinToken } from './admission.ts'
export { supernodeHttp } from './http/server.ts'
export { openSupernode, type Supernode, type SupernodeParts } from './supernode.ts'
