/** `/images`: pull, list, inspect, history, tag, delete, prune; the way to save and push by name. */
import { Readable } from 'node:stream'
import { Type } from 'typebox'
import { errorLine } from '../../src/core/errors.ts'
import { Feed } from '../../src/core/feed.ts'
import { parsePlatform } from '../../src/oci/platform.ts'
import { familiarReference, parseReference } from '../../src/oci/reference.ts'
import type { ImageRecord } from '../images/image-record.ts'
import { Query, untilMs } from './containers.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { credentialOf } from './credential.ts'
import { StatusError } from './errors.ts'
import { flag, labelsFit, oneOf, readFilters, yes } from './filters.ts'
import { importImage, saveStream } from './image-archives.ts'
import { joined, pull } from './image-pull.ts'
import { pushLines } from './image-push.ts'
import { createdMs, historyView, imageView, inspectImage, labelsOf, shown } from './image-view.ts'
import { imageBytes } from './sizes.ts'
import { removeUnneeded } from './unneeded.ts'
import { decoded } from './version-path.ts'

/** Lines of one pull that a slow reader may leave unread. */
const MOST_LINES = 100_000
const MOST_NAME = 1024

const CreateQuery = Type.Intersect([
  Query('fromImage', 'fromSrc', 'repo', 'tag', 'message', 'platform'),
  Type.Object({ changes: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String(), { maxItems: 1000 })])) }),
])

export function imageRoutes(app: DockerApp, parts: DockerParts): void {
  const { images, runtime } = parts
  app.post('/images/create', { schema: { querystring: CreateQuery } }, async (request, reply) => {
    const { query } = request
    if (query.fromSrc) {
      const { fromSrc, repo, tag, message, platform } = query
      const asked = { fromSrc, ...(repo ? { repo } : {}), ...(tag ? { tag } : {}), ...(message ? { message } : {}) }
      const text = await importImage(
        { ...asked, ...(platform ? { platform } : {}), changes: [query.changes ?? []].flat() },
        request.body,
        parts,
        whileThere(reply.raw, parts.signal),
      )
      return reply.type('application/json').send(text)
    }
    if (!query.fromImage) throw new StatusError(400, 'fromImage is missing')
    const reference = parseReference(joined(query.fromImage, query.tag))
    const platform = query.platform ? parsePlatform(query.platform) : undefined
    const credential = credentialOf(request.headers['x-registry-auth'])
    const signal = whileThere(reply.raw, parts.signal)
    const lines = new Feed<Record<string, unknown>>(MOST_LINES)
    void pull({ reference, platform, credential, signal }, parts, lines)
    // the first line decides on the status: a pull that can't begin is an ordinary error
    const iterator = lines[Symbol.asyncIterator]()
    const first = await iterator.next()
    if (!first.done && first.value.failure !== undefined) throw first.value.failure
    const rest = async function* () {
      if (!first.done) yield `${JSON.stringify(first.value)}\r\n`
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        const { failure, ...line } = next.value
        const message = failure === undefined ? '' : errorLine(failure)
        yield `${JSON.stringify(failure === undefined ? line : { errorDetail: { message }, error: message })}\r\n`
      }
    }
    return reply.type('application/json').send(Readable.from(rest()))
  })
  app.get(
    '/images/json',
    { schema: { querystring: Query('all', 'filters', 'shared-size', 'digests') } },
    async (request) => {
      const filters = readFilters(request.query.filters, ['before', 'dangling', 'label', 'reference', 'since', 'until'])
      const border = async (name: string) => {
        const text = filters.get(name)?.[0]
        return text === undefined ? undefined : createdMs((await images.find(text)).image)
      }
      const [before, since] = [await border('before'), await border('since')]
      const until = untilMs(filters, parts.clock.now())
      const dangling = flag(filters, 'dangling')
      const found = (await images.list()).filter(
        ({ image, tags }) =>
          (dangling === undefined || (tags.length === 0) === dangling) &&
          (before === undefined || createdMs(image) < before) &&
          (since === undefined || createdMs(image) > since) &&
          (until === undefined || createdMs(image) < until) &&
          oneOf(filters, 'reference', (pattern) => tags.some((tag) => patternFits(pattern, tag))) &&
          labelsFit(filters, labelsOf(image)),
      )
      const views = await Promise.all(found.map(async (one) => imageView(one, await imageBytes(one.image, parts))))
      return views.sort((a, b) => b.Created - a.Created)
    },
  )
  app.post('/images/prune', { schema: { querystring: Query('filters') } }, async (request) => {
    const filters = readFilters(request.query.filters, ['dangling', 'label', 'label!', 'until'])
    const all = flag(filters, 'dangling') === false
    const until = untilMs(filters, parts.clock.now())
    const used = runtime.containers.inUse().imageIds
    const deleted: { Untagged?: string; Deleted?: string }[] = []
    for (const { image, tags } of await images.list()) {
      if (used.has(image.config) || (!all && tags.length > 0) || !labelsFit(filters, labelsOf(image))) continue
      if (until !== undefined && createdMs(image) >= until) continue
      const { untagged } = await images.remove(image.config, { force: true })
      deleted.push(...untagged.map((name) => ({ Untagged: shown(name) })), { Deleted: image.config })
    }
    return { ImagesDeleted: deleted.length > 0 ? deleted : null, SpaceReclaimed: await removeUnneeded(parts) }
  })
  app.get('/images/*', async (request, reply) => {
    const [name, verb] = split(request.params, ['json', 'history', 'get'])
    if (verb === 'get') {
      const tar = await saveStream([name], parts, whileThere(reply.raw, parts.signal))
      return reply.type('application/x-tar').send(tar)
    }
    const { image } = await images.find(name)
    if (verb === 'history') return historyView(image, await tagsOf(image, parts), parts)
    const listed = (await images.list()).find((one) => one.image.manifest === image.manifest)
    return inspectImage(image, listed, await imageBytes(image, parts), parts)
  })
  app.post('/images/*', { schema: { querystring: Query('repo', 'tag', 'plainHttp') } }, async (request, reply) => {
    const [name, verb] = split(request.params, ['tag', 'push'])
    if (verb === 'push') {
      const signal = whileThere(reply.raw, parts.signal)
      const credential = credentialOf(request.headers['x-registry-auth'])
      const plainHttp = yes(request.query.plainHttp)
      const lines = await pushLines({ name, tag: request.query.tag, plainHttp }, credential, parts, signal)
      return reply.type('application/json').send(lines)
    }
    const { repo = '', tag } = request.query
    const target = parseReference(joined(repo, tag))
    if (target.digest !== undefined) throw new StatusError(400, 'refusing to create a tag with a digest reference')
    const { image } = await images.find(name)
    await images.tag(name, target)
    runtime.events.emit({
      type: 'image',
      action: 'tag',
      id: image.config,
      attributes: { name: familiarReference(target) },
    })
    return reply.code(201).send()
  })
  app.delete('/images/*', { schema: { querystring: Query('force', 'noprune') } }, async (request) => {
    const name = wild(request.params)
    const force = yes(request.query.force)
    const { image, name: named } = await images.find(name)
    const holders = runtime.containers.entries().filter((entry) => entry.record.imageId === image.config)
    const tags = await tagsOf(image, parts)
    if (holders.length > 0 && !(named !== undefined && tags.length > 1)) {
      const alive = holders.find((entry) => entry.record.pid !== undefined)
      const [one] = alive ? [alive] : holders
      const short = (id: string) => id.replace(/^sha256:/, '').slice(0, 12)
      const what =
        named === undefined
          ? `unable to delete ${short(image.config)}`
          : `unable to remove repository reference "${name}"`
      const state = alive === undefined ? 'container' : 'running container'
      if (!force || alive !== undefined)
        throw new StatusError(
          409,
          `conflict: ${what} (${alive ? 'cannot be forced' : 'must force'}) - ${state} ${short(one?.id ?? '')} is using its referenced image ${short(image.config)}`,
        )
    }
    if (named === undefined && tags.length > 1 && !force) {
      throw new StatusError(
        409,
        `conflict: unable to delete ${image.config.slice(7, 19)} (must be forced) - image is referenced in multiple repositories`,
      )
    }
    const { untagged, deleted } = await images.remove(name, { force })
    for (const one of untagged)
      runtime.events.emit({ type: 'image', action: 'untag', id: image.config, attributes: { name: shown(one) } })
    if (deleted !== undefined) {
      runtime.events.emit({ type: 'image', action: 'delete', id: image.config, attributes: { name: image.config } })
      await removeUnneeded(parts)
    }
    return [
      ...untagged.map((one) => ({ Untagged: shown(one) })),
      ...(deleted === undefined ? [] : [{ Deleted: image.config }]),
    ]
  })
}

function wild(params: unknown): string {
  const name = (params as { '*': string })['*']
  if (name.length > MOST_NAME) throw new StatusError(400, 'invalid reference format')
  return decoded(name)
}

function split(params: unknown, verbs: readonly string[]): [name: string, verb: string] {
  const whole = wild(params)
  const verb = verbs.find((one) => whole.endsWith(`/${one}`))
  if (verb === undefined) throw new StatusError(404, 'page not found')
  return [whole.slice(0, -verb.length - 1), verb]
}

async function tagsOf(image: ImageRecord, { images }: DockerParts): Promise<readonly string[]> {
  return (await images.list()).find((one) => one.image.manifest === image.manifest)?.tags ?? []
}

/** `repo`, `repo:tag` with `*` and `?`; without a tag, any. */
function patternFits(pattern: string, tag: string): boolean {
  const name = shown(tag)
  const expression = new RegExp(
    `^${pattern
      .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '[^/]*')
      .replaceAll('?', '[^/]')}$`,
  )
  return expression.test(name) || expression.test(name.replace(/:[^:/]*$/, ''))
}
