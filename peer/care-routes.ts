/** Routes on the agent's socket for the care of store and links: `darner df`, `gc`, `limit`, `why`. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import {
  CollectRequest,
  CollectView,
  LimitList,
  LimitRequest,
  StoreView,
  WhyView,
  YieldRequest,
} from '../src/api/care-api.ts'
import { DarnerError } from '../src/core/errors.ts'
import { isTaskId } from '../src/core/task/task.ts'
import type { Limit, LimitScope } from '../src/exchange/limits/buckets.ts'
import type { Peer } from './peer.ts'

/** Limits that may be set at once. */
const MAX_LIMITS = 1024

/** Registers the routes; errors are mapped by the app that they are registered on. */
export function registerCareRoutes(app: FastifyInstance, { store, limits, scheduler }: Peer): void {
  const typed = app.withTypeProvider<TypeBoxTypeProvider>()
  typed.get('/v1/store', { schema: { response: { 200: StoreView } } }, async () => {
    const { freedBytes } = await store.collect({ dryRun: true, targetBytes: 0 })
    const { freeBytes, highBytes, lowBytes } = await store.room()
    const marks = { highBytes: Math.floor(highBytes), lowBytes: Math.floor(lowBytes) }
    return { ...store.usage(), reclaimableBytes: freedBytes, freeBytes, ...marks }
  })
  typed.post(
    '/v1/store/collect',
    { schema: { body: CollectRequest, response: { 200: CollectView } } },
    async ({ body }) => {
      const { dryRun, targetBytes = 0 } = body
      const { victims, freedBytes, usedBytes } = await store.collect({ dryRun, targetBytes })
      if (!dryRun && victims.length > 0) scheduler.forget(victims.map(({ task }) => task.id))
      return {
        victims: victims.map(({ task, bytes, lastUsedMs }) => ({ task: task.id, bytes, lastUsedMs })),
        freedBytes,
        usedBytes,
      }
    },
  )
  const list = () => ({ limits: limits.list(), uploadYield: limits.uploadYield })
  typed.get('/v1/limits', { schema: { response: { 200: LimitList } } }, async () => list())
  typed.put('/v1/limits', { schema: { body: LimitRequest, response: { 200: LimitList } } }, async ({ body }) => {
    if (body.limit !== undefined && limits.list().length >= MAX_LIMITS)
      throw new DarnerError('LIMIT_EXCEEDED', `there are ${MAX_LIMITS} rate limits already`)
    limits.set(body.scope as LimitScope, body.limit as Limit | undefined)
    return list()
  })
  typed.put('/v1/limits/yield', { schema: { body: YieldRequest, response: { 200: LimitList } } }, async ({ body }) => {
    limits.uploadYield = body.uploadYield
    return list()
  })
  const params = Type.Object({ task: Type.String({ maxLength: 160 }) })
  typed.get('/v1/why/:task', { schema: { params, response: { 200: WhyView } } }, async (request) => {
    const { task } = request.params
    if (!isTaskId(task))
      throw new DarnerError(
        'BAD_ARGUMENT',
        `${JSON.stringify(task)} is not a digest: expected sha256:<64 hex>, or url:<64 hex>`,
      )
    return { task, reads: await scheduler.why(task, { signal: AbortSignal.timeout(15_000) }) }
  })
}
