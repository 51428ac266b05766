/** What the swarm does now: its hosts, its blobs and why they were read. For the admin socket only: nobody else is to know them. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { DarnerError } from '../../src/core/errors.ts'
import { isTaskId, pieceCount, type TaskId } from '../../src/core/task/task.ts'
import type { Supernode } from '../supernode.ts'

/** Adds the routes; they change nothing. */
export function swarmRoutes(app: FastifyInstance, supernode: Supernode): void {
  const typed = app.withTypeProvider<TypeBoxTypeProvider>()
  typed.get('/v1/peers', async () => ({
    peers: [...supernode.control.hosts.values()].map((host) => ({
      peer: host.peer,
      host: host.name,
      software: host.software,
      lanes: host.lanes,
      multiaddrs: host.multiaddrs,
      zone: host.zone,
      rack: host.rack,
      sinceMs: host.sinceMs,
      seededBytes: supernode.traffic.to(host.peer),
    })),
    expelled: [...supernode.admission.expelled].map(([peer, one]) => ({ peer, ...one })),
  }))
  typed.get('/v1/tasks', async () => ({
    tasks: [...supernode.seed.tasks()].map((one) => summary(supernode, one.task.id)),
  }))
  const params = Type.Object({ task: Type.String({ maxLength: 160 }) })
  typed.get('/v1/tasks/:task', { schema: { params } }, async (request) => {
    const id = taskId(request.params.task)
    const followers = [...supernode.followers.of(id)].map(({ peer, have }) => ({
      peer,
      have: have.count,
      complete: have.full,
    }))
    return { ...summary(supernode, id), followers }
  })
  typed.get('/v1/why/:task', { schema: { params } }, async (request) => {
    const id = taskId(request.params.task)
    return { task: id, reads: await supernode.why.of(id) }
  })
}

function taskId(text: string): TaskId {
  if (isTaskId(text)) return text
  throw new DarnerError(
    'BAD_ARGUMENT',
    `${JSON.stringify(text.slice(0, 160))} is not a task id: expected sha256:<64 hex> or url:<64 hex>`,
  )
}

function summary(supernode: Supernode, id: TaskId) {
  const found = supernode.seed.find(id)
  if (found === undefined) throw new DarnerError('NOT_FOUND', `${id}: the seed doesn't hold it`)
  const { task } = found
  return {
    task: id,
    digest: found.stored.digest ?? task.digest,
    bytes: task.bytes,
    pieceBytes: task.pieceBytes,
    pieces: pieceCount(task),
    known: found.known,
    complete: found.stored.complete,
    followers: supernode.followers.count(id),
    error: found.error?.message,
  }
}
