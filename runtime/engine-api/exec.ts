/** `/exec`: further processes in running containers. Their streams are hijack.ts's. */
import { Type } from 'typebox'
import { Id, Query, sizeOf } from './containers.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { detachKeys } from './detach-keys.ts'
import { StatusError } from './errors.ts'
import { parseStart } from './hijack.ts'
import { OptFlag, OptText } from './optional.ts'
import { refuseUnknown } from './unusable.ts'

const Words = Type.Array(Type.String({ maxLength: 131_072 }), { maxItems: 10_000 })

const ExecBody = Type.Object({
  User: OptText(),
  Privileged: OptFlag(),
  Tty: OptFlag(),
  AttachStdin: OptFlag(),
  AttachStdout: OptFlag(),
  AttachStderr: OptFlag(),
  Detach: OptFlag(),
  DetachKeys: OptText(),
  /** As docker's python library writes it; to docker's daemon names of members are the same in any case. */
  detachKeys: OptText(),
  ConsoleSize: Type.Optional(Type.Union([Type.Array(Type.Integer()), Type.Null()])),
  Env: Type.Optional(Type.Union([Words, Type.Null()])),
  WorkingDir: OptText(),
  Cmd: Type.Optional(Type.Union([Words, Type.Null()])),
  Container: OptText(),
})
const KNOWN = new Set(Object.keys(ExecBody.properties))

export function execRoutes(app: DockerApp, parts: DockerParts): void {
  const { execs, containers } = parts.runtime
  app.post('/containers/:id/exec', { schema: { params: Id, body: ExecBody } }, async (request, reply) => {
    const { body } = request
    refuseUnknown(body, KNOWN)
    if (!body.Cmd?.length) throw new StatusError(400, 'No exec command specified')
    const entry = containers.entry(request.params.id)
    if (entry.record.status === 'paused')
      throw new StatusError(409, `Container ${entry.record.name} is paused, unpause the container before exec`)
    if (entry.record.status !== 'running') throw new StatusError(409, `container ${entry.id} is not running`)
    const [rows = 0, columns = 0] = body.ConsoleSize ?? []
    const keys = body.DetachKeys || body.detachKeys
    detachKeys(keys)
    const id = execs.create(entry.id, {
      command: body.Cmd,
      ...(body.Env?.length ? { env: body.Env } : {}),
      ...(body.WorkingDir ? { workdir: body.WorkingDir } : {}),
      ...(body.User ? { user: body.User } : {}),
      ...(body.Privileged ? { privileged: true } : {}),
      ...(body.Tty ? { tty: true } : {}),
      ...(body.AttachStdin ? { stdin: true } : {}),
      ...(keys ? { detachKeys: keys } : {}),
      ...(rows > 0 && columns > 0 ? { size: { rows, columns } } : {}),
    })
    return reply.code(201).send({ Id: id })
  })
  // with streams, the connection is taken over before it comes here
  app.post('/exec/:id/start', { schema: { params: Id } }, async (request, reply) => {
    const body = Buffer.from(JSON.stringify(request.body ?? {}))
    if (parseStart(body).Detach !== true)
      throw new StatusError(
        400,
        'exec start: its streams need the whole connection; ask for Upgrade: tcp, or for Detach',
      )
    const session = await execs.start(request.params.id, { signal: parts.signal })
    session.leave()
    return reply.code(200).send()
  })
  app.post('/exec/:id/resize', { schema: { params: Id, querystring: Query('h', 'w') } }, async (request, reply) => {
    await execs.resize(request.params.id, sizeOf(request.query))
    return reply.code(200).send()
  })
  app.get('/exec/:id/json', { schema: { params: Id } }, async (request) => {
    const { status, exitCode, containerId } = execs.inspect(request.params.id)
    const { request: asked, pid } = execs.facts(request.params.id)
    const [entrypoint = '', ...rest] = asked.command
    return {
      ID: request.params.id,
      Running: status === 'running',
      ExitCode: status === 'exited' ? (exitCode ?? 0) : null,
      Pid: pid ?? 0,
      ContainerID: containerId,
      OpenStdin: asked.stdin === true,
      OpenStdout: true,
      OpenStderr: true,
      CanRemove: status === 'exited',
      DetachKeys: asked.detachKeys ?? '',
      ProcessConfig: {
        tty: asked.tty === true,
        entrypoint,
        arguments: rest,
        privileged: asked.privileged === true,
        ...(asked.user === undefined ? {} : { user: asked.user }),
      },
    }
  })
}
