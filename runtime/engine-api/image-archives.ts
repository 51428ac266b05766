/** `docker save`, `load`, `import` and `commit`: images out of this host and into it without a registry. */
import { Readable } from 'node:stream'
import { Type } from 'typebox'
import { errorLine, isDarnerError } from '../../src/core/errors.ts'
import { hostPlatform, parsePlatform } from '../../src/oci/platform.ts'
import { familiarReference, parseReference, type Reference } from '../../src/oci/reference.ts'
import { ContainerFiles } from '../containers/files.ts'
import { changedConfig, type RunConfig } from '../images/config-changes.ts'
import { decompress } from '../images/decompress.ts'
import { loadArchive } from '../images/load-archive.ts'
import { makeImage, makeLayer } from '../images/make-image.ts'
import { DEFAULT_LAYER_LIMITS as LIMITS } from '../images/pull.ts'
import { chooseImages, saveArchive } from '../images/save-archive.ts'
import { containerConfig } from './containers.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { StatusError } from './errors.ts'
import { yes } from './filters.ts'
import { removeUnneeded } from './unneeded.ts'

const Words = Type.Optional(
  Type.Union([Type.String({ maxLength: 65_536 }), Type.Array(Type.String({ maxLength: 65_536 }), { maxItems: 1000 })]),
)
const Text = Type.Optional(Type.String({ maxLength: 65_536 }))

const list = (words: string | readonly string[] | undefined): string[] =>
  words === undefined ? [] : typeof words === 'string' ? [words] : [...words]

/** The stream of a tar with these images. Throws 404 before it begins. */
export async function saveStream(names: readonly string[], parts: DockerParts, signal: AbortSignal): Promise<Readable> {
  const chosen = await chooseImages(names, parts.images)
  for (const { image } of chosen)
    parts.runtime.events.emit({ type: 'image', action: 'save', id: image.config, attributes: { name: image.config } })
  return Readable.from(saveArchive(chosen, parts, { signal }), { objectMode: false })
}

export function archiveImageRoutes(app: DockerApp, parts: DockerParts): void {
  const { events } = parts.runtime
  app.get('/images/get', { schema: { querystring: Type.Object({ names: Words }) } }, async (request, reply) => {
    const names = list(request.query.names)
    if (names.length === 0) throw new StatusError(400, 'names: name at least one image')
    const tar = await saveStream(names, parts, whileThere(reply.raw, parts.signal))
    return reply.type('application/x-tar').send(tar)
  })
  app.post('/images/load', { schema: { querystring: Type.Object({ quiet: Text }) } }, async (request, reply) => {
    const { body } = request
    if (!(body instanceof Readable)) throw new StatusError(400, 'the body is not an archive')
    const signal = whileThere(reply.raw, parts.signal)
    const loaded = await loadArchive(body, parts, { limits: LIMITS, signal }).catch(refuseArchive)
    const lines = loaded.flatMap(({ image, names }) => {
      events.emit({ type: 'image', action: 'load', id: image.config, attributes: { name: image.config } })
      return names.length > 0
        ? names.map((name) => `Loaded image: ${familiarReference(name)}\n`)
        : [`Loaded image ID: ${image.config}\n`]
    })
    return reply.type('application/json').send(lines.map((stream) => `${JSON.stringify({ stream })}\r\n`).join(''))
  })
  commitRoute(app, parts)
}

/** What is wrong with an archive, or a configuration, is its sender's fault. */
function refuseArchive(error: unknown): never {
  if (!isDarnerError(error, 'LAYER_INVALID', 'MANIFEST_INVALID', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'LIMIT_EXCEEDED'))
    throw error
  throw new StatusError(400, errorLine(error), error.code)
}

/** `docker import`: a root file system as the one layer of an image. The answer's lines. */
export async function importImage(
  query: { fromSrc: string; repo?: string; tag?: string; message?: string; platform?: string; changes?: string[] },
  body: unknown,
  parts: DockerParts,
  signal: AbortSignal,
): Promise<string> {
  if (query.fromSrc !== '-')
    throw new StatusError(501, 'import of a URL is not offered: fetch it with darner get, and import the file')
  if (!(body instanceof Readable)) throw new StatusError(400, 'the body is not an archive')
  const names = nameOf(query.repo, query.tag)
  const { os, architecture, variant } = query.platform ? parsePlatform(query.platform) : hostPlatform()
  const config = changedConfig({}, query.changes ?? [])
  using _making = parts.images.making()
  const created = new Date(parts.clock.now()).toISOString()
  try {
    const layer = await makeLayer(decompress(body, { signal }), parts, { limits: LIMITS, signal })
    const comment = query.message || 'imported from -'
    const image = await makeImage(
      { architecture, os, ...(variant ? { variant } : {}), created, config, history: [{ created, comment }] },
      [layer],
      names,
      parts,
    )
    const id = image.config
    parts.runtime.events.emit({ type: 'image', action: 'import', id, attributes: { name: id } })
    return `${JSON.stringify({ status: id })}\r\n`
  } catch (error) {
    // docker's client reads failures of this route from its lines
    const message = errorLine(error)
    return `${JSON.stringify({ errorDetail: { message }, error: message })}\r\n`
  }
}

const NOT_THE_IMAGES = ['Hostname', 'Domainname', 'AttachStdin', 'AttachStdout', 'AttachStderr', 'Tty', 'OpenStdin']

function commitRoute(app: DockerApp, parts: DockerParts): void {
  const { containers } = parts.runtime
  const files = new ContainerFiles(containers)
  const querystring = Type.Object({
    container: Type.String({ maxLength: 256 }),
    repo: Text,
    tag: Text,
    comment: Text,
    author: Text,
    pause: Text,
    changes: Words,
  })
  app.post('/commit', { schema: { querystring } }, async (request, reply) => {
    const { query } = request
    const entry = containers.entry(query.container)
    const names = nameOf(query.repo, query.tag)
    const body = (request.body ?? {}) as Record<string, unknown>
    const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
    const own = Object.entries(containerConfig(entry, parts)).filter(
      ([key, value]) => !NOT_THE_IMAGES.includes(key) && key !== 'Image' && key !== 'StdinOnce' && value !== null,
    )
    const config = changedConfig({ ...Object.fromEntries(own), ...given }, list(query.changes))
    const base = await parts.images.find(entry.record.imageId)
    const signal = whileThere(reply.raw, parts.signal)
    const still = query.pause === undefined || yes(query.pause)
    const make = async () => {
      using _making = parts.images.making()
      const layer = await files.layer(entry.id, { still, signal }, (tar) =>
        makeLayer(tar, parts, { limits: LIMITS, signal }),
      )
      const made = committed(base.image.configText, config, {
        created: new Date(parts.clock.now()).toISOString(),
        author: query.author ?? '',
        comment: query.comment ?? '',
        platform: base.image.platform,
      })
      const image = await makeImage(made, [...base.image.layers, layer], names, parts).catch(refuseArchive)
      const { origin, config: parent } = base.image
      await parts.images.save({ ...image, parent, ...(origin === undefined ? {} : { origin }) }, [])
      return image
    }
    const image = await make().catch(async (error: unknown) => {
      await removeUnneeded(parts) // what was made of it so far
      throw error
    })
    const [name] = names
    containers.tell(entry, 'commit', {
      comment: query.comment ?? '',
      imageID: image.config,
      ...(name === undefined ? {} : { imageRef: familiarReference(name) }),
    })
    return reply.code(201).send({ Id: image.config })
  })
}

/** The configuration of an image that stands on another one. */
function committed(
  baseText: string,
  config: RunConfig,
  facts: { created: string; author: string; comment: string; platform: string },
): Record<string, unknown> {
  const base = JSON.parse(baseText) as { history?: unknown[]; rootfs: { diff_ids: string[] } }
  const before = base.history ?? base.rootfs.diff_ids.map(() => ({}))
  const { os, architecture, variant } = parsePlatform(facts.platform)
  const { created, author, comment } = facts
  const command = Array.isArray(config.Cmd) ? config.Cmd.join(' ') : ''
  return {
    architecture,
    os,
    ...(variant ? { variant } : {}),
    created,
    ...(author === '' ? {} : { author }),
    config,
    history: [
      ...before,
      { created, created_by: command, ...(author === '' ? {} : { author }), ...(comment === '' ? {} : { comment }) },
    ],
  }
}

/** `repo` and `tag` as the name that an image is to have; none without `repo`. Throws 400, REFERENCE_INVALID. */
function nameOf(repo: string | undefined, tag: string | undefined): Reference[] {
  if (!repo) return []
  const name = parseReference(tag ? `${repo}:${tag}` : repo)
  if (name.digest !== undefined) throw new StatusError(400, 'refusing to create a tag with a digest reference')
  return [name]
}
