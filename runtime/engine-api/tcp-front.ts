/** The API by TCP, for clients that prove with a certificate that they may use it. Such a client is root on this host. */
import type { Socket } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { cannotListen } from '../../src/core/cannot-listen.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { parseHostPort } from '../../src/core/host-port.ts'
import type { Log } from '../../src/core/log.ts'
import { readPems } from '../../src/protocol/pem.ts'

/** Strangers hold a connection no longer than this before they have proven their identity. */
const HANDSHAKE_MS = 10_000
/** Connections at once, strangers' among them. */
const MOST_CONNECTIONS = 1000
const OTHER_WAY = 'name another address with --docker-tcp IP:PORT, or off'

export interface TcpFrontOptions {
  /** IP:PORT. */
  readonly listen: string
  /** Folder of tls.crt, tls.key and ca.crt. A client with a certificate of that authority is let in. */
  readonly folder: string
  /** Gets each connection whose client has proven itself. */
  readonly take: (socket: Socket) => void
  readonly log: Log
}

/** Dispose it to stop and to end its connections. Throws CONFIG_INVALID, HOST_UNABLE, BAD_ARGUMENT. */
export async function openTcpFront({ listen, folder, take, log }: TcpFrontOptions): Promise<AsyncDisposable> {
  const { host, port } = parseHostPort(listen)
  const { cert, key, ca } = await readPems(folder)
  if (cert === undefined || key === undefined || ca === undefined)
    throw new DarnerError('CONFIG_INVALID', `${folder}: tls.crt, tls.key and ca.crt are not all there`, {
      way: 'by TCP docker clients are answered with mutual TLS only: put the certificate of this host, its key and the authority of the clients there, or set dockerTcp to off',
    })
  let server: Server
  try {
    const tls = { cert, key, ca, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' as const }
    server = createServer({ ...tls, handshakeTimeout: HANDSHAKE_MS, allowHalfOpen: true }, take)
  } catch (error) {
    throw new DarnerError('CONFIG_INVALID', `${folder}: ${(error as Error).message}`, {
      cause: error,
      way: 'tls.key must be the key of the first certificate in tls.crt, all in PEM',
    })
  }
  server.maxConnections = MOST_CONNECTIONS
  const open = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    // a certificate of another authority ends the connection without a word to its client
    log.info({ reason: socket.authorizationError ?? error.message }, 'docker client refused')
    socket.destroy()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('answer docker clients', listen, error, OTHER_WAY)))
    server.listen({ host, port }, resolve)
  })
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}
