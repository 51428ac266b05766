/** `/containers/:id/upgrade` and `…/rollback`, which docker has not: the bodies are those of the agent's own API. */
import { Type } from 'typebox'
import { RollbackRequest, UpgradeRequest } from '../../src/api/upgrade-api.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import { hostPlatform } from '../../src/oci/platform.ts'
import { parseReference } from '../../src/oci/reference.ts'
import { pullImage } from '../images/pull.ts'
import { Id } from './containers.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { credentialOf } from './credential.ts'

const Body = Type.Object(
  {
    ...UpgradeRequest.properties,
    /** Default `missing`: pulled when it isn't on this host, by the rights of `X-Registry-Auth`. */
    pull: Type.Optional(Type.Union([Type.Literal('always'), Type.Literal('missing'), Type.Literal('never')])),
  },
  { additionalProperties: false },
)

/** Both answer when it is done; a client that leaves before doesn't stop it. */
export function upgradeRoutes(app: DockerApp, parts: DockerParts): void {
  const { upgrades } = parts.runtime
  app.post('/containers/:id/upgrade', { schema: { params: Id, body: Body } }, async (request) => {
    const { pull = 'missing', ...asked } = request.body
    const credential = credentialOf(request.headers['x-registry-auth'])
    const bring = async () => {
      const reference = parseReference(asked.image)
      const { signal } = parts
      await parts.schemes.ask(reference.registry, { plainHttp: false, signal }, (plainHttp) =>
        pullImage(
          { reference, platform: hostPlatform(), plainHttp, signal, ...(credential ? { credential } : {}) },
          parts,
        ),
      )
    }
    if (pull === 'always') await bring()
    else if (pull === 'missing') {
      await parts.images.find(asked.image).catch(async (error: unknown) => {
        if (!isDarnerError(error, 'NOT_FOUND')) throw error
        await bring()
      })
    }
    return upgrades.upgrade(request.params.id, asked)
  })
  app.post('/containers/:id/rollback', { schema: { params: Id, body: RollbackRequest } }, async (request) =>
    upgrades.rollback(request.params.id, request.body),
  )
}
