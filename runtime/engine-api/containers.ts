/** `/containers`: lists, inspect and the steps of a container's life. */
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { CONTAINER_NAME, type ExitReply } from '../../src/api/containers-api.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { Entry } from '../containers/entry.ts'
import { runProgram } from '../shim/program.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { dockerError, StatusError } from './errors.ts'
import { type Filters, labelsFit, oneOf, readFilters, timeMs, yes } from './filters.ts'
import { CHANGEABLE, HostConfig, readResources, readRestart, readStorage } from './host-config.ts'
import { usedBytes } from './sizes.ts'
import { refuseUnchangeable } from './unusable.ts'
import { inspectView, labelsOf, listView, type NetworkFacts, networksOf, stateOf } from './view.ts'

export const Id = Type.Object({ id: Type.String({ maxLength: 256 }) })
export const Query = <const T extends readonly string[]>(...names: T) =>
  Type.Object(
    Object.fromEntries(names.map((name) => [name, Type.Optional(Type.String({ maxLength: 65_536 }))])) as Record<
      T[number],
      ReturnType<typeof optional>
    >,
  )
const optional = () => Type.Optional(Type.String({ maxLength: 65_536 }))
const FILTERS = [
  'ancestor',
  'before',
  'since',
  'exited',
  'expose',
  'publish',
  'health',
  'id',
  'is-task',
  'isolation',
  'label',
  'name',
  'network',
  'status',
  'volume',
] as const

/** So long docker's daemon waits for the end of what it killed. */
const KILLED_MS = 10_000

export function containerRoutes(app: DockerApp, parts: DockerParts): void {
  lists(app, parts)
  steps(app, parts)
  waits(app, parts)
  changes(app, parts)
}

function lists(app: DockerApp, parts: DockerParts): void {
  const { containers, execs, health } = parts.runtime
  const volumePath = (name: string) => containers.volumes.pathOf(name)
  app.get(
    '/containers/json',
    { schema: { querystring: Query('all', 'limit', 'size', 'filters') } },
    async (request) => {
      const { query } = request
      const filters = readFilters(query.filters, FILTERS)
      const limit = query.limit && /^\d+$/.test(query.limit) ? Number(query.limit) : 0
      const all = yes(query.all) || limit > 0 || filters.has('status') || filters.has('exited')
      const found = containers
        .entries()
        .filter((entry) => all || ['running', 'paused', 'restarting'].includes(stateOf(entry)))
        .sort((a, b) => b.record.createdAt - a.record.createdAt)
      const fitting = await fits(found, filters, parts)
      const chosen = limit > 0 ? fitting.slice(0, limit) : fitting
      const now = parts.clock.now()
      const views = chosen.map((entry) =>
        listView(entry, {
          now,
          image: entry.record.request.image,
          volumePath,
          ...networkFacts(entry, parts),
        }),
      )
      if (!yes(query.size)) return views
      return await Promise.all(
        views.map(async (view, at) => {
          const entry = chosen[at]
          const sizes = entry === undefined ? undefined : await usedBytes(entry, parts)
          return sizes === undefined ? view : { ...view, SizeRw: sizes.rw, SizeRootFs: sizes.root }
        }),
      )
    },
  )
  app.get('/containers/:id/json', { schema: { params: Id, querystring: Query('size') } }, async (request) => {
    const entry = containers.entry(request.params.id)
    return inspectView(entry, {
      host: containers.host,
      volumePath,
      health: health.results(entry.id),
      driver: `darner-${parts.snapshotter.kind}`,
      execIds: execs.of(entry.id),
      ...networkFacts(entry, parts),
      ...(yes(request.query.size) ? { sizes: await usedBytes(entry, parts) } : {}),
    })
  })
  app.get('/containers/:id/top', { schema: { params: Id, querystring: Query('ps_args') } }, async (request) => {
    const pids = new Set((await containers.processes(request.params.id)).map(String))
    const words = (request.query.ps_args || '-ef').split(/\s+/).filter((word) => word !== '')
    const { code, stdout, stderr } = await runProgram('ps', words, { signal: parts.signal })
    if (code !== 0) throw new StatusError(400, `ps: ${stderr.trim()}`)
    const [head = '', ...rows] = stdout.trimEnd().split('\n')
    const titles = head.trim().split(/\s+/)
    const column = titles.indexOf('PID')
    if (column < 0) throw new StatusError(400, "Couldn't find PID field in ps output")
    const cut = (row: string) => {
      const cells = row.trim().split(/\s+/)
      return [...cells.slice(0, titles.length - 1), cells.slice(titles.length - 1).join(' ')]
    }
    const found = rows.map(cut).filter((cells) => pids.has(cells[column] ?? ''))
    return { Titles: titles, Processes: found }
  })
}

function networkFacts({ id, record }: Entry, { runtime }: DockerParts): NetworkFacts {
  const { request } = record
  return {
    networking: runtime.containers.inspect(id).networking,
    joined: runtime.networks?.joined({ id, request }),
  }
}

/** The `Config` of a container's inspect. */
export function containerConfig(entry: Entry, { runtime, snapshotter }: DockerParts): Record<string, unknown> {
  return inspectView(entry, {
    host: runtime.containers.host,
    volumePath: (name) => runtime.containers.volumes.pathOf(name),
    health: [],
    driver: `darner-${snapshotter.kind}`,
    execIds: [],
  }).Config
}

async function fits(found: readonly Entry[], filters: Filters, parts: DockerParts): Promise<Entry[]> {
  const { containers } = parts.runtime
  const border = (name: string) => {
    const reference = filters.get(name)?.[0]
    return reference === undefined ? undefined : containers.entry(reference).record.createdAt
  }
  const [before, since] = [border('before'), border('since')]
  const ancestors = new Set<string>()
  for (const name of filters.get('ancestor') ?? []) {
    const image = await parts.images.find(name).catch((error: unknown) => {
      if (error instanceof DarnerError && error.code === 'NOT_FOUND') return undefined
      throw error
    })
    if (image) ancestors.add(image.image.config)
  }
  const exited = (filters.get('exited') ?? []).map((text) => {
    if (/^\d+$/.test(text)) return Number(text)
    throw new StatusError(400, `invalid filter 'exited=${text}'`)
  })
  for (const status of filters.get('status') ?? []) {
    if (!['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'].includes(status))
      throw new StatusError(400, `invalid filter 'status=${status}'`)
  }
  return found.filter((entry) => {
    const { record, id } = entry
    const mounts = record.request.mounts ?? []
    return (
      oneOf(filters, 'id', (text) => id.startsWith(text)) &&
      oneOf(filters, 'name', (text) => matches(text, record.name)) &&
      oneOf(filters, 'status', (text) => text === stateOf(entry)) &&
      oneOf(filters, 'is-task', (text) => !yes(text)) && // of swarm mode, which isn't here
      oneOf(filters, 'health', (text) => text === (record.health?.status ?? 'none')) &&
      oneOf(filters, 'volume', (text) => mounts.some((one) => one.source === text || one.target === text)) &&
      oneOf(filters, 'network', (text) => Object.keys(networksOf(entry, networkFacts(entry, parts))).includes(text)) &&
      oneOf(filters, 'publish', (text) => portFits(text, record.request.publish ?? [])) &&
      oneOf(filters, 'expose', (text) => portFits(text, record.request.publish ?? [])) &&
      (exited.length === 0 || (stateOf(entry) === 'exited' && exited.includes(record.exitCode ?? 0))) &&
      (!filters.has('ancestor') || ancestors.has(record.imageId)) &&
      labelsFit(filters, labelsOf(entry)) &&
      (before === undefined || record.createdAt < before) &&
      (since === undefined || record.createdAt > since)
    )
  })
}

/** A part of the name, or a regular expression, which also may start at docker's `/`. */
function matches(text: string, name: string): boolean {
  try {
    const expression = new RegExp(text)
    return expression.test(name) || expression.test(`/${name}`)
  } catch {
    return name.includes(text)
  }
}

function portFits(text: string, publish: readonly { containerPort: number; protocol: string }[]): boolean {
  const [, from = '', to = from, protocol = 'tcp'] = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(text) ?? []
  return publish.some(
    (one) => one.protocol === protocol && one.containerPort >= Number(from) && one.containerPort <= Number(to),
  )
}

function steps(app: DockerApp, parts: DockerParts): void {
  const { containers } = parts.runtime
  const { signal } = parts
  app.post('/containers/:id/start', { schema: { params: Id } }, async (request, reply) => {
    const entry = containers.entry(request.params.id)
    if (['running', 'stopping'].includes(entry.record.status)) return reply.code(304).send()
    if (entry.record.status === 'paused')
      throw new StatusError(409, 'cannot start a paused container, try unpause instead')
    await containers.startContainer(entry.id, { signal })
    return reply.code(204).send()
  })
  const Stop = Query('t', 'signal')
  app.post('/containers/:id/stop', { schema: { params: Id, querystring: Stop } }, async (request, reply) => {
    const stopped = await containers.stop(request.params.id, { ...stopHow(request.query), signal })
    return reply.code(stopped ? 204 : 304).send()
  })
  app.post('/containers/:id/restart', { schema: { params: Id, querystring: Stop } }, async (request, reply) => {
    await containers.restart(request.params.id, { ...stopHow(request.query), signal })
    return reply.code(204).send()
  })
  app.post('/containers/:id/kill', { schema: { params: Id, querystring: Query('signal') } }, async (request, reply) => {
    const entry = containers.entry(request.params.id)
    if (entry.record.pid === undefined)
      throw new StatusError(409, `Cannot kill container: ${request.params.id}: Container ${entry.id} is not running`)
    const name = request.query.signal || 'KILL'
    // as docker: after a kill the container has ended
    const ended = isKill(name)
      ? containers.wait(entry.id, { signal: anySignal([signal, AbortSignal.timeout(KILLED_MS)]) })
      : undefined
    ended?.catch(() => {}) // awaited below
    await containers.kill(entry.id, name, { signal })
    await ended?.catch(() => {}) // it hangs in the kernel, or the agent ends
    return reply.code(204).send()
  })
  app.post('/containers/:id/pause', { schema: { params: Id } }, async (request, reply) => {
    const entry = containers.entry(request.params.id)
    if (entry.record.status === 'paused') throw new StatusError(409, `Container ${entry.id} is already paused`)
    if (entry.record.status !== 'running') throw new StatusError(409, `Container ${entry.id} is not running`)
    await containers.pause(entry.id, { signal })
    return reply.code(204).send()
  })
  app.post('/containers/:id/unpause', { schema: { params: Id } }, async (request, reply) => {
    const entry = containers.entry(request.params.id)
    if (entry.record.status !== 'paused') throw new StatusError(409, `Container ${entry.id} is not paused`)
    await containers.resume(entry.id, { signal })
    return reply.code(204).send()
  })
  app.post('/containers/:id/rename', { schema: { params: Id, querystring: Query('name') } }, async (request, reply) => {
    const name = (request.query.name ?? '').replace(/^\//, '')
    if (name === '') throw new StatusError(400, 'Neither old nor new names may be empty')
    if (!new RegExp(CONTAINER_NAME).test(name))
      throw new StatusError(
        400,
        `Invalid container name (${name.slice(0, 200)}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
      )
    const entry = containers.entry(request.params.id)
    if (entry.record.name === name)
      throw new StatusError(400, 'Renaming a container with the same name as its current name')
    await containers.rename(entry.id, name)
    return reply.code(204).send()
  })
  const unlink = async (path: string, reply: FastifyReply) => {
    const [, owner = '', alias = ''] = /^\/?([^/]*)\/(.+)$/.exec(path) ?? []
    await containers.unlink(owner, alias)
    return reply.code(204).send()
  }
  // docker's command has the slash of a link as it is
  app.delete('/containers/:owner/:alias', { schema: { querystring: Query('link') } }, async (request, reply) => {
    const { owner, alias } = request.params as { owner: string; alias: string }
    if (!yes(request.query.link)) throw new StatusError(404, 'page not found')
    return unlink(`${owner}/${alias}`, reply)
  })
  app.delete(
    '/containers/:id',
    { schema: { params: Id, querystring: Query('force', 'v', 'link') } },
    async (request, reply) => {
      if (yes(request.query.link)) return unlink(request.params.id, reply)
      const entry = containers.entry(request.params.id)
      const force = yes(request.query.force)
      const volumes = yes(request.query.v)
      await containers.remove(entry.id, { force, volumes, signal }).catch((error: unknown) => {
        if (force || !isDarnerError(error, 'STATE_INVALID')) throw error
        const state = stateOf(entry)
        const hint = state === 'paused' ? 'unpause and then stop the container' : 'stop the container'
        throw new StatusError(
          409,
          `cannot remove container "/${entry.record.name}": container is ${state}: ${hint} before removal or force remove`,
        )
      })
      return reply.code(204).send()
    },
  )
}

const isKill = (name: string) => /^((SIG)?KILL|9)$/i.test(name)

function stopHow(query: { t?: string; signal?: string }): { timeoutSec?: number; stopSignal?: string } {
  const how = query.signal ? { stopSignal: query.signal } : {}
  if (!query.t) return how
  if (!/^-?\d{1,9}$/.test(query.t)) throw new StatusError(400, `invalid timeout: ${query.t}`)
  return { ...how, timeoutSec: Number(query.t) < 0 ? 86_400 : Math.min(Number(query.t), 86_400) }
}

function waits(app: DockerApp, parts: DockerParts): void {
  const { containers } = parts.runtime
  app.post(
    '/containers/:id/wait',
    { schema: { params: Id, querystring: Query('condition') } },
    async (request, reply) => {
      const condition = request.query.condition || 'not-running'
      if (!['not-running', 'next-exit', 'removed'].includes(condition))
        throw new StatusError(400, `invalid condition: "${condition.slice(0, 60)}"`)
      const { id } = containers.entry(request.params.id)
      const signal = whileThere(reply.raw, parts.signal)
      const end: Promise<ExitReply> =
        condition === 'removed'
          ? containers.waitRemoved(id, { signal })
          : containers.wait(id, { nextExit: condition === 'next-exit', signal })
      // clients start the container only when they have seen the head of this answer
      reply.hijack()
      reply.raw.writeHead(200, { 'content-type': 'application/json' })
      reply.raw.flushHeaders()
      try {
        const { exitCode, error } = await end
        reply.raw.end(
          JSON.stringify({ StatusCode: exitCode, ...(error === undefined ? {} : { Error: { Message: error } }) }),
        )
      } catch (error) {
        reply.raw.end(JSON.stringify({ StatusCode: 255, Error: { Message: dockerError(error, 'wait').message } }))
      }
    },
  )
}

function changes(app: DockerApp, parts: DockerParts): void {
  const { containers } = parts.runtime
  app.post(
    '/containers/:id/update',
    { schema: { params: Id, body: Type.Record(Type.String(), Type.Unknown()) } },
    async (request) => {
      const { body } = request
      if (!Value.Check(HostConfig, body)) throw new StatusError(400, 'invalid update body')
      refuseUnchangeable(body, HostConfig.properties, CHANGEABLE.properties)
      const resources = readResources(body)
      const restart = readRestart(body)
      await containers.update(
        request.params.id,
        {
          ...(Object.keys(resources).length > 0 ? { resources } : {}),
          ...(restart === undefined ? {} : { restart }),
          ...readStorage(body.StorageOpt),
        },
        { signal: parts.signal },
      )
      return { Warnings: null }
    },
  )
  app.post(
    '/containers/:id/resize',
    { schema: { params: Id, querystring: Query('h', 'w') } },
    async (request, reply) => {
      await containers.resize(request.params.id, sizeOf(request.query))
      return reply.code(200).send()
    },
  )
  app.post('/containers/prune', { schema: { querystring: Query('filters') } }, async (request) => {
    const filters = readFilters(request.query.filters, ['until', 'label', 'label!'])
    const until = untilMs(filters, parts.clock.now())
    const removed: string[] = []
    let reclaimed = 0
    for (const entry of containers.entries()) {
      if (!['exited', 'created'].includes(entry.record.status)) continue
      if (!labelsFit(filters, labelsOf(entry)) || (until !== undefined && entry.record.createdAt >= until)) continue
      reclaimed += (await usedBytes(entry, parts)).rw
      await containers.remove(entry.id, { force: false, signal: parts.signal })
      removed.push(entry.id)
    }
    parts.runtime.events.emit({
      type: 'container',
      action: 'prune',
      id: '',
      attributes: { reclaimed: String(reclaimed) },
    })
    return { ContainersDeleted: removed.length > 0 ? removed : null, SpaceReclaimed: reclaimed }
  })
}

/** Throws 400. */
export function sizeOf({ h, w }: { h?: string; w?: string }): { rows: number; columns: number } {
  const [rows, columns] = [Number(h), Number(w)]
  const fine = (one: number) => Number.isInteger(one) && one >= 0 && one <= 65_535
  if (!fine(rows) || !fine(columns)) throw new StatusError(400, `invalid terminal size: ${h} by ${w}`)
  return { rows: Math.max(1, rows), columns: Math.max(1, columns) }
}

/** `until` as a time, or as a duration before now: `24h`, `10m30s`. */
export function untilMs(filters: Filters, now: number): number | undefined {
  const text = filters.get('until')?.[0]
  if (text === undefined) return undefined
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(h|m|s)/g)]
  if (parts.length > 0 && parts.map(([whole]) => whole).join('') === text) {
    const unit: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000 }
    return now - parts.reduce((sum, [, number, of = 's']) => sum + Number(number) * (unit[of] ?? 0), 0)
  }
  return timeMs(text)
}
