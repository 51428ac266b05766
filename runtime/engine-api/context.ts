/** What the routes of the Docker Engine API work with. */

import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, RawServerDefault } from 'fastify'
import type { Snapshotter } from '../../src/core/contracts/snapshots.ts'
import type { Log } from '../../src/core/log.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { RegistryPusher } from '../../src/origin/registry-push.ts'
import type { RegistrySchemes } from '../../src/origin/registry-schemes.ts'
import type { Images } from '../images/images.ts'
import type { OwnBlobs } from '../images/own-blobs.ts'
import type { PullParts } from '../images/pull.ts'
import type { Runtime } from '../runtime.ts'

export interface DockerParts extends PullParts {
  readonly runtime: Runtime
  readonly images: Images
  /** Blobs that were made or loaded here. */
  readonly own: OwnBlobs
  readonly pusher: RegistryPusher
  readonly schemes: RegistrySchemes
  readonly snapshotter: Snapshotter & { upperOf?(id: string): string }
  /** Facts of this agent for `info` and `version`. */
  readonly about: {
    readonly version: string
    readonly dataDir: string
    readonly defaultRuntime: string
    /** Path by name. */
    readonly runtimes: ReadonlyMap<string, string>
    /** Why some of them can start no container here; those that weren't tried are left out. */
    readonly troubles: ReadonlyMap<string, string>
    /** An id that stays the same over restarts. */
    readonly id: string
    readonly startedAt: number
  }
  readonly log: Log
  /** Aborted when the agent ends. */
  readonly signal: AbortSignal
}

export type DockerApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse<IncomingMessage>,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

/** Answers with what comes from `source`, the head at once: clients wait for it, also while there is nothing to tell yet. */
export function streamNow(reply: FastifyReply, type: string, source: AsyncIterable<Uint8Array | string>): void {
  reply.hijack()
  const { raw } = reply
  raw.writeHead(200, { ...(reply.getHeaders() as OutgoingHttpHeaders), 'content-type': type })
  raw.flushHeaders()
  Readable.from(source, { objectMode: false })
    .on('error', () => raw.destroy())
    .pipe(raw)
}

/** A signal that is aborted when the agent ends or the client of this answer left. */
export function whileThere(response: ServerResponse, signal: AbortSignal): AbortSignal {
  const gone = new AbortController()
  // not at the end of every answer: an error costs its trace
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new DOMException('the client left', 'AbortError'))
  })
  return anySignal([signal, gone.signal])
}
