/** `POST /images/NAME/push` and `POST /auth`: what clients want of registries beyond reading. */
import { Readable } from 'node:stream'
import { Type } from 'typebox'
import { errorLine, isDarnerError } from '../../src/core/errors.ts'
import { Feed } from '../../src/core/feed.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import {
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  upstreamOf,
} from '../../src/oci/reference.ts'
import type { ImageRecord } from '../images/image-record.ts'
import { type PushRequest, pushImage } from '../images/push.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { StatusError } from './errors.ts'
import { pathOf } from './image-pull.ts'

const MOST_LINES = 100_000
const STATES = {
  preparing: 'Preparing',
  pushing: 'Pushing',
  present: 'Layer already exists',
  mounted: 'Mounted from another repository',
  pushed: 'Pushed',
} as const

/** What goes under which name: one tag, or with no tag asked for all of the repository. Throws 404. */
async function chosen(
  name: string,
  tag: string | undefined,
  { images }: DockerParts,
): Promise<{ image: ImageRecord; target: Reference }[]> {
  if (tag) {
    const target = parseReference(`${name}:${tag}`)
    return [{ image: (await images.find(formatReference(target))).image, target }]
  }
  const { registry, repository } = parseReference(name)
  const stem = `${formatReference({ registry, repository })}:`
  const all = (await images.list()).flatMap(({ image, tags }) =>
    tags.filter((one) => one.startsWith(stem)).map((one) => ({ image, target: parseReference(one) })),
  )
  if (all.length > 0) return all
  throw new StatusError(404, `An image does not exist locally with the tag: ${name}`)
}

/** The lines of one push; what can't begin is thrown. */
export async function pushLines(
  { name, tag, plainHttp }: { name: string; tag: string | undefined; plainHttp: boolean },
  credential: Credential | undefined,
  parts: DockerParts,
  signal: AbortSignal,
): Promise<Readable> {
  const work = await chosen(name, tag, parts)
  const lines = new Feed<Record<string, unknown>>(MOST_LINES)
  void pushAll(work, { plainHttp, credential, signal }, parts, lines)
  const texts = async function* () {
    for await (const line of lines) yield `${JSON.stringify(line)}\r\n`
  }
  return Readable.from(texts())
}

async function pushAll(
  work: readonly { image: ImageRecord; target: Reference }[],
  { plainHttp: asked, credential, signal }: Pick<PushRequest, 'plainHttp' | 'credential' | 'signal'>,
  parts: DockerParts,
  lines: Feed<Record<string, unknown>>,
): Promise<void> {
  try {
    const [first] = work
    if (first) lines.push({ status: `The push refers to repository [${pathOf(first.target)}]` })
    for (const { image, target } of work) {
      const { digest, bytes } = await parts.schemes.ask(target.registry, { plainHttp: asked, signal }, (plainHttp) =>
        pushImage(
          {
            image,
            target,
            plainHttp,
            credential,
            signal,
            onProgress: (layer, state, sent) => {
              const pushing = state === 'pushing'
              lines.push({
                status: STATES[state],
                progressDetail: pushing ? { current: sent, total: layer.bytes } : {},
                ...(pushing ? { progress: `${sent}B/${layer.bytes}B` } : {}),
                id: layer.diffId.replace(/^sha\d+:/, '').slice(0, 12),
              })
            },
          },
          parts,
        ),
      )
      const tag = target.tag ?? 'latest'
      lines.push({ status: `${tag}: digest: ${digest} size: ${bytes}` })
      lines.push({ progressDetail: {}, aux: { Tag: tag, Digest: digest, Size: bytes } })
      parts.runtime.events.emit({
        type: 'image',
        action: 'push',
        id: familiarReference(target),
        attributes: { name: pathOf(target) },
      })
    }
  } catch (error) {
    const message = errorLine(error)
    lines.push({ errorDetail: { message }, error: message })
  } finally {
    lines.end()
  }
}

const Login = Type.Object({
  username: Type.Optional(Type.String({ maxLength: 1024 })),
  password: Type.Optional(Type.String({ maxLength: 32_768 })),
  serveraddress: Type.Optional(Type.String({ maxLength: 1024 })),
})

export function authRoute(app: DockerApp, parts: DockerParts): void {
  app.post('/auth', { schema: { body: Login } }, async (request) => {
    const { username = '', password = '', serveraddress = '' } = request.body
    const registry = serveraddress.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
    const host = registry === '' || registry === 'index.docker.io' ? 'docker.io' : registry
    if (/[^a-z0-9.:[\]-]/i.test(host) || !URL.canParse(upstreamOf(host, { plainHttp: false })))
      throw new StatusError(400, 'serveraddress: it names no registry')
    const credential: Credential = { kind: 'basic', username, password }
    try {
      await parts.schemes.ask(host, { plainHttp: false, signal: parts.signal }, (plainHttp) =>
        parts.pusher.checkLogin(upstreamOf(host, { plainHttp }), credential, { signal: parts.signal }),
      )
    } catch (error) {
      if (!isDarnerError(error, 'ORIGIN_UNAUTHORIZED') && !isDarnerError(error, 'ORIGIN_DENIED')) throw error
      throw new StatusError(401, `login attempt to ${host} failed: ${error.message}`)
    }
    return { Status: 'Login Succeeded', IdentityToken: '' }
  })
}
