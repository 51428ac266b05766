/** The supernode's public entry, for the composition roots and tests. */
export { joinToken } from './admission.ts'
export { ADMIN_SOCKET, adminSocket } from './http/admin.ts'
export { supernodeHttp } from './http/server.ts'
export { openSupernode, type Supernode, type SupernodeParts } from './supernode.ts'
