/**
 * What changes the supernode: routes on a unix socket in its data directory, mode 0600, so that only who may read its identity
 * may use them. The HTTP side that others reach has none of these.
 */
import { chmod, unlink } from 'node:fs/promises'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { fastify } from 'fastify'
import { Type } from 'typebox'
import { asDarnerError, DarnerError, systemCode } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import { parsePeerId } from '../../src/net/identity.ts'
import type { Supernode } from '../supernode.ts'
import { answerErrors } from './server.ts'

/** The socket's name in the data directory. */
export const ADMIN_SOCKET = 'admin.sock'

/** Listens on `path`. Throws HOST_UNABLE when it can't. Dispose to stop. */
export async function adminSocket(
  path: string,
  { supernode, log }: { supernode: Supernode; log: Log },
): Promise<AsyncDisposable> {
  const app = fastify({
    loggerInstance: log.child({}, { level: 'warn' }),
    forceCloseConnections: true,
  }).withTypeProvider<TypeBoxTypeProvider>()
  answerErrors(app)
  const params = Type.Object({ peer: Type.String({ minLength: 1, maxLength: 128 }) })
  const body = Type.Object({ why: Type.String({ maxLength: 512 }) }, { additionalProperties: false })
  app.post('/v1/peers/:peer/revoke', { schema: { params, body } }, async (request) => {
    const peer = parsePeerId(request.params.peer)
    await supernode.control.revoke(peer, request.body.why)
    return { peer, was: supernode.control.hosts.has(peer) }
  })
  app.post('/v1/peers/:peer/allow', { schema: { params } }, async (request) => {
    const peer = parsePeerId(request.params.peer)
    await supernode.control.allow(peer)
    return { peer }
  })
  try {
    // the data directory is ours alone: whatever lies here is what a killed process left
    await unlink(path).catch((error: unknown) => {
      if (systemCode(error) !== 'ENOENT') throw error
    })
    await app.listen({ path })
    await chmod(path, 0o600)
  } catch (error) {
    throw new DarnerError('HOST_UNABLE', `cannot listen on ${path}: ${asDarnerError(error, 'listen').message}`, {
      cause: error,
      way: 'a unix socket path has at most 107 bytes: choose a shorter data directory',
    })
  }
  return { [Symbol.asyncDispose]: async () => void (await app.close()) }
}
