/**
 * `POST /containers/run`, for this program's own commands and on the agent's own socket only. One request takes docker's body of a create,
 * then carries the container's streams by `Upgrade: darner-stream`, from its first byte to its end.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Value } from 'typebox/value'
import { carrySession } from '../stream-api.ts'
import type { DockerParts } from './context.ts'
import { CreateBody, create } from './create.ts'
import { StatusError } from './errors.ts'
import { jsonOf, readBody, refuse, takeOver } from './hijack.ts'
import { routeOf } from './version-path.ts'

const MOST_BODY_BYTES = 4 * 1024 * 1024

/** True for the one path that is answered here. */
export function isRun({ method, url = '' }: IncomingMessage): boolean {
  return method === 'POST' && /^\/containers\/run(\?|$)/.test(url)
}

/** Serves one connection to its end. Never rejects. The answer's head has the container's id and the warnings of create. */
export async function serveRun(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  parts: DockerParts,
): Promise<void> {
  takeOver(socket, head)
  const { containers } = parts.runtime
  try {
    const body = parse(await readBody(request, socket, MOST_BODY_BYTES))
    const { query } = routeOf(request.url ?? '')
    const [name, platform] = [query.get('name') ?? '', query.get('platform') ?? '']
    // one that its end removes is gone after a power loss in any case
    const { id, warnings } = await create(body, { name, platform }, parts, {
      sync: body.HostConfig?.AutoRemove !== true,
    })
    if (socket.destroyed) return // nobody is there any more: it is made, and isn't started
    const opened = await containers.startAttached(id, { signal: parts.signal })
    const told = { 'Darner-Container': id, 'Darner-Warnings': encodeURIComponent(JSON.stringify(warnings)) }
    await carrySession(socket, opened, { headers: told, signal: parts.signal })
  } catch (error) {
    refuse(socket, error, request)
  }
}

/** Throws 400. */
function parse(bytes: Uint8Array): CreateBody {
  const json = jsonOf(bytes)
  if (Value.Check(CreateBody, json)) return json
  const first = [...Value.Errors(CreateBody, json)][0]
  throw new StatusError(400, `body${first?.instancePath ?? ''} ${first?.message ?? 'invalid'}`)
}
