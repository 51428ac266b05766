/** `/volumes`: named and anonymous volumes of the local driver. */
import { randomBytes } from 'node:crypto'
import { Type } from 'typebox'
import type { Volume } from '../volumes/volumes.ts'
import { Query } from './containers.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { StatusError } from './errors.ts'
import { flag, labelsFit, oneOf, readFilters, yes } from './filters.ts'
import { folderBytes } from './sizes.ts'

const Name = Type.Object({ name: Type.String({ maxLength: 255 }) })
const OptMap = () => Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]))
const VolumeBody = Type.Object(
  {
    Name: Type.Optional(Type.String({ maxLength: 255 })),
    Driver: Type.Optional(Type.String({ maxLength: 255 })),
    DriverOpts: OptMap(),
    Labels: OptMap(),
    ClusterVolumeSpec: Type.Optional(Type.Null()),
  },
  { additionalProperties: false },
)

export function volumeView({ name, labels, options, path, createdAt }: Volume): Record<string, unknown> {
  return {
    CreatedAt: new Date(createdAt).toISOString().replace(/\.\d+Z/, 'Z'),
    Driver: 'local',
    Labels: Object.keys(labels).length > 0 ? labels : null,
    Mountpoint: path,
    Name: name,
    Options: Object.keys(options).length > 0 ? options : null,
    Scope: 'local',
  }
}

export function volumeRoutes(app: DockerApp, parts: DockerParts): void {
  const { containers, events } = parts.runtime
  const { volumes } = containers
  app.get('/volumes', { schema: { querystring: Query('filters') } }, async (request) => {
    const filters = readFilters(request.query.filters, ['dangling', 'driver', 'label', 'name'])
    const used = containers.volumesInUse()
    const dangling = flag(filters, 'dangling')
    const found = (await volumes.list()).filter(
      ({ name, labels }) =>
        (dangling === undefined || used.has(name) !== dangling) &&
        oneOf(filters, 'driver', (text) => text === 'local') &&
        oneOf(filters, 'name', (text) => name.includes(text)) &&
        labelsFit(filters, labels),
    )
    return { Volumes: found.map(volumeView), Warnings: null }
  })
  app.post('/volumes/create', { schema: { body: VolumeBody } }, async (request, reply) => {
    const { Name: name, Driver, DriverOpts, Labels } = request.body
    if (Driver && Driver !== 'local')
      throw new StatusError(
        404,
        `create ${name ?? ''}: error looking up volume plugin ${Driver}: plugin "${Driver}" not found`,
      )
    const given = name || randomBytes(32).toString('hex')
    const before = await volumes.find(given)
    const volume = await volumes.ensure(given, {
      now: parts.clock.now(),
      anonymous: !name,
      ...(DriverOpts ? { options: DriverOpts } : {}),
      ...(Labels ? { labels: Labels } : {}),
    })
    if (before === undefined)
      events.emit({ type: 'volume', action: 'create', id: volume.name, attributes: { driver: 'local' } })
    return reply.code(201).send(volumeView(volume))
  })
  app.get('/volumes/:name', { schema: { params: Name } }, async (request) =>
    volumeView(await volumes.get(request.params.name)),
  )
  app.delete('/volumes/:name', { schema: { params: Name, querystring: Query('force') } }, async (request, reply) => {
    const { name } = request.params
    const found = await volumes.find(name)
    if (found === undefined) {
      if (yes(request.query.force)) return reply.code(204).send()
      throw new StatusError(404, `get ${name}: no such volume`)
    }
    const holders = containers.volumesInUse().get(name)
    if (holders !== undefined) throw new StatusError(409, `remove ${name}: volume is in use - [${holders.join(', ')}]`)
    await volumes.remove(name)
    events.emit({ type: 'volume', action: 'destroy', id: name, attributes: { driver: 'local' } })
    return reply.code(204).send()
  })
  app.post('/volumes/prune', { schema: { querystring: Query('filters') } }, async (request) => {
    const filters = readFilters(request.query.filters, ['label', 'label!', 'all'])
    const all = flag(filters, 'all') === true
    const used = containers.volumesInUse()
    const gone: string[] = []
    let bytes = 0
    for (const one of await volumes.list()) {
      if (used.has(one.name) || !(all || one.anonymous) || !labelsFit(filters, one.labels)) continue
      bytes += await folderBytes(one.path)
      await volumes.remove(one.name)
      events.emit({ type: 'volume', action: 'destroy', id: one.name, attributes: { driver: 'local' } })
      gone.push(one.name)
    }
    return { VolumesDeleted: gone, SpaceReclaimed: bytes }
  })
}
