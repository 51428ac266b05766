/** `docker cp`, `export` and `diff`: the files of a container. */
import type { Stats } from 'node:fs'
import { Readable } from 'node:stream'
import { Type } from 'typebox'
import { ContainerFiles, type PathFacts } from '../containers/files.ts'
import { Id, Query } from './containers.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { StatusError } from './errors.ts'
import { yes } from './filters.ts'

const KINDS = { modified: 0, added: 1, deleted: 2 } as const

export function archiveRoutes(app: DockerApp, parts: DockerParts): void {
  const files = new ContainerFiles(parts.runtime.containers)
  const { signal } = parts
  const At = { params: Id, querystring: Type.Object({ path: Type.String({ minLength: 1, maxLength: 4096 }) }) }
  const quiet = (done: Promise<void>, tar: Readable) =>
    done.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined))
  app.head('/containers/:id/archive', { schema: At }, async (request, reply) => {
    const facts = await files.stat(request.params.id, request.query.path, { signal })
    return reply.header('x-docker-container-path-stat', statHeader(facts)).send()
  })
  app.get('/containers/:id/archive', { schema: At }, async (request, reply) => {
    const { facts, tar, done } = await files.archive(request.params.id, request.query.path, {
      signal: whileThere(reply.raw, signal),
    })
    void quiet(done, tar)
    return reply.header('x-docker-container-path-stat', statHeader(facts)).type('application/x-tar').send(tar)
  })
  app.put(
    '/containers/:id/archive',
    {
      schema: {
        params: Id,
        querystring: Type.Intersect([At.querystring, Query('noOverwriteDirNonDir', 'copyUIDGID')]),
      },
    },
    async (request, reply) => {
      if (!(request.body instanceof Readable)) throw new StatusError(400, 'the body is not an archive')
      await files.extract(request.params.id, request.query.path, request.body, {
        keepKind: yes(request.query.noOverwriteDirNonDir),
        asUser: yes(request.query.copyUIDGID),
        signal,
      })
      return reply.code(200).send()
    },
  )
  app.get('/containers/:id/export', { schema: { params: Id } }, async (request, reply) => {
    const { tar, done } = await files.export(request.params.id, { signal: whileThere(reply.raw, signal) })
    void quiet(done, tar)
    return reply.type('application/x-tar').send(tar)
  })
  app.get('/containers/:id/changes', { schema: { params: Id } }, async (request) => {
    const found = await files.changes(request.params.id, { signal })
    return found.map(({ path, kind }) => ({ Path: path, Kind: KINDS[kind] }))
  })
}

function statHeader({ name, stat, target }: PathFacts): string {
  const json = { name, size: stat.size, mode: goMode(stat), mtime: stat.mtime.toISOString(), linkTarget: target }
  return Buffer.from(JSON.stringify(json)).toString('base64')
}

/** File modes as Go's os package numbers them. */
function goMode(stat: Stats): number {
  const bits =
    (stat.isDirectory() ? 2 ** 31 : 0) +
    (stat.isSymbolicLink() ? 2 ** 27 : 0) +
    (stat.isBlockDevice() || stat.isCharacterDevice() ? 2 ** 26 : 0) +
    (stat.isFIFO() ? 2 ** 25 : 0) +
    (stat.isSocket() ? 2 ** 24 : 0) +
    (stat.mode & 0o4000 ? 2 ** 23 : 0) +
    (stat.mode & 0o2000 ? 2 ** 22 : 0) +
    (stat.isCharacterDevice() ? 2 ** 21 : 0) +
    (stat.mode & 0o1000 ? 2 ** 20 : 0)
  return bits + (stat.mode & 0o777)
}
