/**
 * The Docker Engine API (v1.24 to v1.43) on a unix socket, and by TCP with mutual TLS: what docker's clients ask, answered by
 * this engine. A file per resource has the routes; here are the version in the path, errors, bodies, and connections that are taken over.
 */
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import { fastify } from 'fastify'
import { listenUnix } from '../../src/core/listen-unix.ts'
import { archiveRoutes } from './archive.ts'
import { containerRoutes } from './containers.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { createRoute } from './create.ts'
import { distributionRoute } from './distribution.ts'
import { dockerError, StatusError } from './errors.ts'
import { execRoutes } from './exec.ts'
import { PLAIN_HIJACK, serveHijack } from './hijack.ts'
import { archiveImageRoutes } from './image-archives.ts'
import { authRoute } from './image-push.ts'
import { imageRoutes } from './images.ts'
import { logRoute } from './logs.ts'
import { networkRoutes } from './networks.ts'
import { isRun, serveRun } from './run.ts'
import { statsRoute } from './stats.ts'
import { systemRoutes } from './system.ts'
import { openTcpFront } from './tcp-front.ts'
import { unofferedRoutes } from './unoffered.ts'
import { upgradeRoutes } from './upgrade.ts'
import { API_VERSION, routeOf } from './version-path.ts'
import { volumeRoutes } from './volumes.ts'

/** Longest JSON body; archives are streamed. */
const BODY_BYTES = 4 * 1024 * 1024
/** The group that may use the socket, where this host has it. */
const GROUP = 'darner'
const MOST_HEAD_BYTES = 65_536

/** The API, not yet on any socket. Dispose it to end what it serves. */
export interface DockerApi extends AsyncDisposable {
  /** Answers one request of another server. */
  serve(request: IncomingMessage, response: ServerResponse): void
  /** Takes over one connection that another server's client wants upgraded. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  /** Listens on `path`, mode 0660. A socket that nobody serves is taken over. Throws CONFLICT, HOST_UNABLE. Dispose it to stop. */
  listen(path: string): Promise<AsyncDisposable>
  /**
   * Listens on `address`, IP:PORT, for clients with a certificate of the authority in `folder`. Throws CONFIG_INVALID, HOST_UNABLE. Dispose
   * it to stop.
   */
  listenTcp(address: string, folder: string): Promise<AsyncDisposable>
}

export async function openDockerApi(parts: DockerParts): Promise<DockerApi> {
  const app = dockerApp(parts)
  await app.ready()
  return {
    serve: (request, response) => app.routing(request, response),
    upgrade: (request, socket, head) => void (isRun(request) ? serveRun : serveHijack)(request, socket, head, parts),
    async listen(path) {
      const front = createServer({ allowHalfOpen: true }, (socket) => pass(socket, app))
      const name = await listenUnix(path, (place) => listen(front, place), {
        who: 'engine',
        flag: '--docker-socket',
        group: process.getuid?.() === 0 ? await groupId() : undefined,
      })
      return {
        async [Symbol.asyncDispose]() {
          await name[Symbol.asyncDispose]()
          const closed = new Promise((resolve) => front.close(resolve))
          app.server.closeAllConnections()
          for (const socket of open.get(app) ?? []) socket.destroy()
          await closed
        },
      }
    },
    listenTcp: (listen, folder) =>
      openTcpFront({ listen, folder, log: parts.log, take: (socket) => pass(socket, app) }),
    async [Symbol.asyncDispose]() {
      await app.close()
    },
  }
}

const open = new WeakMap<DockerApp, Set<Socket>>()

function dockerApp(parts: DockerParts): DockerApp {
  const app = fastify({
    loggerInstance: parts.log.child({}, { level: 'warn' }),
    bodyLimit: BODY_BYTES,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 2048 },
    rewriteUrl: (request) => {
      const url = request.url ?? '/'
      const bare = url.replace(/^\/v\d+\.\d+(?=\/|$|\?)/, '')
      return bare.startsWith('/') ? bare : `/${bare}`
    },
  }) as unknown as DockerApp
  app.setValidatorCompiler(TypeBoxValidatorCompiler)
  app.removeAllContentTypeParsers()
  // clients send a JSON content type with no body at all
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
    try {
      done(null, text === '' ? undefined : JSON.parse(String(text)))
    } catch (error) {
      done(Object.assign(new Error('invalid JSON', { cause: error }), { statusCode: 400 }))
    }
  })
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.addHook('onRequest', async (request, reply) => {
    routeOf(request.originalUrl)
    reply.headers({
      'api-version': API_VERSION,
      server: `darner/${parts.about.version} (linux)`,
      ostype: 'linux',
      'docker-experimental': 'false',
    })
  })
  // docker's client reads an error's text only under exactly this type
  app.addHook('onSend', async (_request, reply, payload) => {
    if (String(reply.getHeader('content-type')).startsWith('application/json'))
      reply.header('content-type', 'application/json')
    return payload
  })
  app.setErrorHandler(async (error, request, reply) => {
    const { status, ...body } = dockerError(error, `${request.method} ${request.url}`)
    // a status that was chosen, as 503 outside of a swarm, is no trouble of this host's
    if (status >= 500 && !(error instanceof StatusError))
      parts.log.warn({ error, url: request.url }, 'docker request failed')
    return reply.code(status).type('application/json').send(body)
  })
  app.setNotFoundHandler(async (_request, reply) =>
    reply.code(404).type('application/json').send({ message: 'page not found' }),
  )
  systemRoutes(app, parts)
  createRoute(app, parts)
  containerRoutes(app, parts)
  logRoute(app, parts)
  statsRoute(app, parts)
  archiveRoutes(app, parts)
  execRoutes(app, parts)
  archiveImageRoutes(app, parts)
  imageRoutes(app, parts)
  authRoute(app, parts)
  distributionRoute(app, parts)
  volumeRoutes(app, parts)
  networkRoutes(app, parts)
  upgradeRoutes(app, parts)
  unofferedRoutes(app)
  app.server.on('upgrade', (request, socket, head) => void serveHijack(request, socket, head, parts))
  open.set(app, new Set())
  return app
}

/**
 * Hands a connection to HTTP. When its first request takes the connection over without asking for an upgrade, the upgrade is
 * put into its head here.
 */
function pass(socket: Socket, app: DockerApp): void {
  const mine = open.get(app)
  mine?.add(socket)
  socket.once('close', () => mine?.delete(socket))
  let head = Buffer.alloc(0)
  const hand = (bytes: Buffer) => {
    socket.off('readable', look)
    socket.off('error', drop)
    socket.off('end', drop)
    socket.unshift(bytes)
    app.server.emit('connection', socket)
  }
  const drop = () => socket.destroy()
  const look = () => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      head = Buffer.concat([head, chunk])
      if (!mayHijack(head)) return hand(head)
      const end = head.indexOf('\r\n\r\n')
      if (end < 0 && head.byteLength < MOST_HEAD_BYTES) continue
      return hand(end < 0 ? head : withUpgrade(head, end))
    }
  }
  socket.on('error', drop)
  // it left before its head was whole, and as its half stays open nobody else would close it
  socket.on('end', drop)
  socket.on('readable', look)
}

const HIJACKED = /^POST (\/v\d+\.\d+)?\/(containers\/[^/ ]+\/attach|exec\/[^/ ]+\/start)(\?[^ ]*)? HTTP\/1\.1$/

/** False as soon as the first line can't be one of those that take the connection over. */
function mayHijack(head: Buffer): boolean {
  const lines = head.subarray(0, 4096).toString('latin1').split('\r\n')
  if (lines.length > 1) return HIJACKED.test(lines[0] ?? '')
  const start = head.subarray(0, 6).toString('latin1')
  return head.byteLength < 4096 && 'POST /'.startsWith(start)
}

function withUpgrade(whole: Buffer, end: number): Buffer {
  const lines = whole.subarray(0, end).toString('latin1').split('\r\n')
  if (lines.some((line) => /^upgrade:/i.test(line))) return whole
  const body = whole.subarray(end + 4)
  // a detached exec answers at once and keeps the connection for HTTP
  if (/\/start/.test(lines[0] ?? '') && /"Detach"\s*:\s*true/.test(body.toString('latin1'))) return whole
  const kept = lines.filter((line) => !/^connection:/i.test(line))
  const head = [...kept, 'Connection: Upgrade', 'Upgrade: tcp', `${PLAIN_HIJACK}: 1`].join('\r\n')
  return Buffer.concat([Buffer.from(`${head}\r\n\r\n`, 'latin1'), body])
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path }, () => resolve())
  })
}

async function groupId(): Promise<number | undefined> {
  const text = await readFile('/etc/group', 'utf8').catch(() => '')
  const id = text
    .split('\n')
    .find((line) => line.startsWith(`${GROUP}:`))
    ?.split(':')[2]
  return id === undefined ? undefined : Number(id)
}
