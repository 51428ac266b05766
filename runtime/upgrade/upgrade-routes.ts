/** Upgrade and rollback on the agent's unix socket: src/api/upgrade-api.ts has the shapes. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { RollbackRequest, UpgradeReply, UpgradeRequest } from '../../src/api/upgrade-api.ts'
import type { Upgrades } from './upgrades.ts'

const Id = Type.Object({ id: Type.String({ maxLength: 256 }) })

/** Adds the two routes. Both answer when it is done; a client that leaves before doesn't stop it. */
export function upgradeRoutes(plain: FastifyInstance, upgrades: Upgrades): void {
  const app = plain.withTypeProvider<TypeBoxTypeProvider>()
  app.post(
    '/v1/containers/:id/upgrade',
    { schema: { params: Id, body: UpgradeRequest, response: { 200: UpgradeReply } } },
    async (request) => upgrades.upgrade(request.params.id, request.body),
  )
  app.post(
    '/v1/containers/:id/rollback',
    { schema: { params: Id, body: RollbackRequest, response: { 200: UpgradeReply } } },
    async (request) => upgrades.rollback(request.params.id, request.body),
  )
}
