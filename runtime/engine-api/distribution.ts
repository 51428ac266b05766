/** `GET /distribution/NAME/json`: what a registry has under a name. */
import { parseReference } from '../../src/oci/reference.ts'
import { describeImage } from '../images/describe.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { credentialOf } from './credential.ts'
import { StatusError } from './errors.ts'
import { pullFailure } from './image-pull.ts'
import { decoded } from './version-path.ts'

export function distributionRoute(app: DockerApp, parts: DockerParts): void {
  app.get('/distribution/*', async (request, reply) => {
    const path = (request.params as { '*': string })['*']
    const [, name] = /^(.{1,1024})\/json$/.exec(path) ?? []
    if (name === undefined) throw new StatusError(404, 'page not found')
    const reference = parseReference(decoded(name))
    const credential = credentialOf(request.headers['x-registry-auth'])
    const signal = whileThere(reply.raw, parts.signal)
    try {
      const found = await parts.schemes.ask(reference.registry, { plainHttp: false, signal }, (plainHttp) =>
        describeImage({ reference, plainHttp, signal, ...(credential === undefined ? {} : { credential }) }, parts),
      )
      return {
        Descriptor: { mediaType: found.mediaType, digest: found.digest, size: found.bytes },
        Platforms: found.platforms.map(({ os, architecture, variant }) => ({
          architecture,
          os,
          ...(variant ? { variant } : {}),
        })),
      }
    } catch (error) {
      throw pullFailure(error, reference)
    }
  })
}
