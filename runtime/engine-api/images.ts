/** `/images`: pull, list, inspect, history, tag, delete, prune. */
import { Readable } from 'node:stream'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { asDarnerError, DarnerError, errorLine } from '../../src/base/errors.ts'
import { Feed } from '../../src/base/feed.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { hostPlatform, parsePlatform } from '../../src/oci/platform.ts'
import { familiarReference, parseReference, type Reference } from '../../src/oci/reference.ts'
import type { Credential } from '../../src/task/origin.ts'
import type { ImageRecord } from '../images/image-record.ts'
import type { ListedImage } from '../images/images.ts'
import { type PullEvent, pullImage } from '../images/pull.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { Query, untilMs } from './containers.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { StatusError } from './errors.ts'
import { flag, labelsFit, oneOf, readFilters, yes } from './filters.ts'
import { imageBytes } from './sizes.ts'

/** Lines of one pull that a slow reader may leave unread. */
const MOST_LINES = 100_000
const MOST_NAME = 1024

export function imageRoutes(app: DockerApp, parts: DockerParts): void {
  const { images, runtime } = parts
  app.post(
    '/images/create',
    { schema: { querystring: Query('fromImage', 'fromSrc', 'repo', 'tag', 'message', 'platform', 'changes') } },
    async (request, reply) => {
      const { query } = request
      if (query.fromSrc)
        throw new StatusError(
          501,
          'importing a root file system is not offered: make an image with umoci or buildah, and push it to a registry',
        )
      if (!query.fromImage) throw new StatusError(400, 'fromImage is missing')
      const reference = parseReference(joined(query.fromImage, query.tag))
      const platform = query.platform ? parsePlatform(query.platform) : hostPlatform()
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
    },
  )
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
    return { ImagesDeleted: deleted.length > 0 ? deleted : null, SpaceReclaimed: await collect(parts) }
  })
  app.get('/images/*', async (request) => {
    const [name, verb] = split(request.params, ['json', 'history', 'get'])
    if (verb === 'get')
      throw new StatusError(501, 'docker save is not offered yet: copy the image from its registry with skopeo')
    const { image } = await images.find(name)
    if (verb === 'history') return historyView(image, await tagsOf(image, parts), parts)
    const listed = (await images.list()).find((one) => one.image.manifest === image.manifest)
    return inspectImage(image, listed, await imageBytes(image, parts), parts)
  })
  app.post('/images/*', { schema: { querystring: Query('repo', 'tag') } }, async (request, reply) => {
    const [name, verb] = split(request.params, ['tag', 'push'])
    if (verb === 'push')
      throw new StatusError(
        501,
        'docker push is not offered: push with skopeo copy, or to the registry mirror of the agent',
      )
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
      await collect(parts)
    }
    return [
      ...untagged.map((one) => ({ Untagged: shown(one) })),
      ...(deleted === undefined ? [] : [{ Deleted: image.config }]),
    ]
  })
}

/** Removes layers that nothing needs any more; their bytes. */
async function collect({ images, snapshotter, runtime }: DockerParts): Promise<number> {
  const gone = await images.collectLayers(snapshotter, runtime.containers.inUse().layers as ReadonlySet<Digest>)
  return gone.reduce((sum, layer) => sum + layer.bytes, 0)
}

async function pull(
  request: {
    reference: Reference
    platform: ReturnType<typeof hostPlatform>
    credential: Credential | undefined
    signal: AbortSignal
  },
  parts: DockerParts,
  lines: Feed<Record<string, unknown>>,
): Promise<void> {
  const { reference, platform, credential, signal } = request
  const short = (digest: string) => digest.replace(/^sha256:/, '').slice(0, 12)
  const told = new Map<string, string>()
  const onProgress = (event: PullEvent) => {
    if (event.kind === 'resolved') {
      lines.push({ status: `Pulling from ${pathOf(reference)}`, id: reference.tag ?? reference.digest ?? 'latest' })
      return
    }
    const id = short(event.layer.digest)
    const status = STATES[event.state]
    const progress = event.state === 'downloading'
    if (!progress && told.get(id) === status) return
    told.set(id, status)
    const detail = progress ? { current: event.have, total: event.layer.bytes } : {}
    lines.push({
      status,
      progressDetail: detail,
      ...(progress ? { progress: `${event.have}B/${event.layer.bytes}B` } : {}),
      id,
    })
  }
  const once = (plainHttp: boolean) =>
    pullImage(
      { reference, platform, plainHttp, onProgress, signal, ...(credential === undefined ? {} : { credential }) },
      parts,
    )
  try {
    const before = await parts.images.find(familiarReference(reference)).catch(() => undefined)
    // as docker: a registry on loopback may speak plain http
    const { image } = isLoopback(reference.registry)
      ? await once(false).catch((error: unknown) => {
          if (signal.aborted || !speaksNoTls(error)) throw error
          return once(true)
        })
      : await once(false)
    lines.push({ status: `Digest: ${image.manifest}` })
    const what = before?.image.manifest === image.manifest ? 'Image is up to date for' : 'Downloaded newer image for'
    lines.push({ status: `Status: ${what} ${familiarReference(reference)}` })
    parts.runtime.events.emit({
      type: 'image',
      action: 'pull',
      id: familiarReference(reference),
      attributes: { name: pathOf(reference) },
    })
  } catch (error) {
    lines.push({ failure: pullFailure(error, reference) })
  } finally {
    lines.end()
  }
}

const STATES = {
  waiting: 'Waiting',
  present: 'Already exists',
  downloading: 'Downloading',
  unpacking: 'Extracting',
  done: 'Pull complete',
} as const

/** docker's words for what a registry refuses. */
function pullFailure(error: unknown, reference: Reference): Error {
  const known = asDarnerError(error, `pull ${familiarReference(reference)}`)
  if (known.code === 'ORIGIN_NOT_FOUND')
    return new StatusError(
      404,
      `manifest for ${familiarReference(reference)} not found: manifest unknown: ${known.message}`,
    )
  if (known.code === 'ORIGIN_UNAUTHORIZED' || known.code === 'ORIGIN_DENIED')
    return new StatusError(
      404,
      `pull access denied for ${pathOf(reference)}, repository does not exist or may require 'docker login': ${known.message}`,
    )
  return known
}

function isLoopback(registry: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/.test(registry)
}

function speaksNoTls(error: unknown): boolean {
  return error instanceof DarnerError && (error.code === 'ORIGIN_UNREACHABLE' || error.code === 'ORIGIN_FAILED')
}

function pathOf(reference: Reference): string {
  return familiarReference({ registry: reference.registry, repository: reference.repository, tag: 'x' }).replace(
    /:x$/,
    '',
  )
}

/** `fromImage` and `tag` as one text; a tag may be a digest. */
function joined(name: string, tag: string | undefined): string {
  if (!tag) return name
  return tag.includes(':') ? `${name}@${tag}` : `${name}:${tag}`
}

const Auth = Type.Object({
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  identitytoken: Type.Optional(Type.String()),
  registrytoken: Type.Optional(Type.String()),
})

/** `X-Registry-Auth`: base64url of JSON. Throws 400. */
export function credentialOf(header: string | string[] | undefined): Credential | undefined {
  if (typeof header !== 'string' || header === '') return undefined
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(header, 'base64url').toString())
  } catch {
    throw new StatusError(400, 'invalid X-Registry-Auth header')
  }
  if (!Value.Check(Auth, json)) throw new StatusError(400, 'invalid X-Registry-Auth header')
  if (json.identitytoken) return { kind: 'refresh', token: json.identitytoken }
  if (json.registrytoken) return { kind: 'header', value: `Bearer ${json.registrytoken}` }
  if (!json.username) return undefined
  return { kind: 'basic', username: json.username, password: json.password ?? '' }
}

function wild(params: unknown): string {
  const name = (params as { '*': string })['*']
  if (name.length > MOST_NAME) throw new StatusError(400, 'invalid reference format')
  return decodeURIComponent(name)
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

function shown(name: string): string {
  return familiarReference(parseReference(name))
}

interface Config {
  readonly created?: string
  readonly author?: string
  readonly architecture?: string
  readonly variant?: string
  readonly os?: string
  readonly config?: Record<string, unknown>
  readonly history?: { created?: string; created_by?: string; comment?: string; empty_layer?: boolean }[]
}

function configOf(image: ImageRecord): Config {
  return JSON.parse(image.configText) as Config
}

function createdMs(image: ImageRecord): number {
  const at = Date.parse(configOf(image).created ?? '')
  return Number.isNaN(at) ? 0 : at
}

function labelsOf(image: ImageRecord): Readonly<Record<string, string>> {
  return readImageConfig(configOf(image), image.config).labels
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

export function imageView({ image, tags, digests }: ListedImage, bytes: number) {
  return {
    Id: image.config,
    ParentId: '',
    RepoTags: tags.length > 0 ? tags.map(shown) : null,
    RepoDigests: digests.length > 0 ? digests.map(shown) : null,
    Created: Math.floor(createdMs(image) / 1000),
    Size: bytes,
    VirtualSize: bytes,
    SharedSize: -1,
    Labels: labelsOf(image),
    Containers: -1,
  }
}

function inspectImage(
  image: ImageRecord,
  listed: ListedImage | undefined,
  bytes: number,
  { snapshotter }: DockerParts,
) {
  const config = configOf(image)
  return {
    Id: image.config,
    RepoTags: (listed?.tags ?? []).map(shown),
    RepoDigests: (listed?.digests ?? []).map(shown),
    Parent: '',
    Comment: config.history?.at(-1)?.comment ?? '',
    Created: config.created ?? '',
    DockerVersion: '',
    Author: config.author ?? '',
    Config: config.config ?? {},
    Architecture: config.architecture ?? '',
    ...(config.variant ? { Variant: config.variant } : {}),
    Os: config.os ?? '',
    Size: bytes,
    VirtualSize: bytes,
    GraphDriver: { Name: `darner-${snapshotter.kind}`, Data: null },
    RootFS: { Type: 'layers', Layers: image.layers.map((layer) => layer.diffId) },
    Metadata: { LastTagTime: new Date(image.pulledAt).toISOString() },
  }
}

/** Newest first; the size is that of the layer that a step made. */
async function historyView(image: ImageRecord, tags: readonly string[], { snapshotter }: DockerParts) {
  const steps = configOf(image).history ?? image.layers.map(() => ({}))
  let layer = 0
  const rows = []
  for (const step of steps as NonNullable<Config['history']>) {
    const diffId = step.empty_layer ? undefined : image.layers[layer++]?.diffId
    const stored = diffId === undefined ? undefined : await snapshotter.layer(diffId)
    rows.push({
      Id: '<missing>',
      Created: Math.floor((Date.parse(step.created ?? '') || 0) / 1000),
      CreatedBy: step.created_by ?? '',
      Tags: null as string[] | null,
      Size: stored?.bytes ?? 0,
      Comment: step.comment ?? '',
    })
  }
  rows.reverse()
  const [top] = rows
  if (top) Object.assign(top, { Id: image.config, Tags: tags.length > 0 ? tags.map(shown) : null })
  return rows
}
