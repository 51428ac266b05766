/** `/containers/ID/logs`: what was written, in docker's frames, or raw where there was a terminal. */
import { Readable } from 'node:stream'
import type { LogEntry } from '../shim/log-lines.ts'
import { Id, Query } from './containers.ts'
import { type DockerApp, type DockerParts, streamNow, whileThere } from './context.ts'
import { StatusError } from './errors.ts'
import { timeMs, yes } from './filters.ts'
import { framed } from './frames.ts'

export interface LogShape {
  readonly tty: boolean
  readonly timestamps: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  readonly untilMs?: number
}

/** Entries as bytes of the answer. */
export async function* logBytes(entries: AsyncIterable<LogEntry>, shape: LogShape): AsyncGenerator<Buffer> {
  const midLine = { stdout: false, stderr: false }
  for await (const { time, timeMs: at, stream, bytes, ends } of entries) {
    if (shape.untilMs !== undefined && at > shape.untilMs) return
    const stamp = shape.timestamps && !midLine[stream] ? Buffer.from(`${utc(time)} `) : Buffer.alloc(0)
    midLine[stream] = !ends
    if (!shape[stream]) continue
    const text = Buffer.concat([stamp, bytes])
    yield shape.tty ? text : framed(stream === 'stdout' ? 1 : 2, text)
  }
}

/** conmon writes local time with an offset and nanoseconds. */
function utc(time: string): string {
  const nanos = /\.(\d{1,9})/.exec(time)?.[1]?.padEnd(9, '0') ?? '000000000'
  return `${new Date(Date.parse(time)).toISOString().slice(0, 19)}.${nanos}Z`
}

export function logRoute(app: DockerApp, parts: DockerParts): void {
  const { containers } = parts.runtime
  app.get(
    '/containers/:id/logs',
    {
      schema: {
        params: Id,
        querystring: Query('follow', 'stdout', 'stderr', 'since', 'until', 'timestamps', 'tail', 'details'),
      },
    },
    async (request, reply) => {
      const { query } = request
      const { id, record } = containers.entry(request.params.id)
      if (record.request.log?.driver === 'none' || record.request.log?.driver === 'journald')
        throw new StatusError(501, 'configured logging driver does not support reading')
      const [stdout, stderr] = [yes(query.stdout), yes(query.stderr)]
      if (!stdout && !stderr) throw new StatusError(400, 'Bad parameters: you must choose at least one stream')
      const tail = query.tail && query.tail !== 'all' && /^\d+$/.test(query.tail) ? Number(query.tail) : undefined
      const sinceMs = timeMs(query.since)
      const untilMs = timeMs(query.until)
      const tty = record.request.tty === true
      const entries = containers.logs(
        id,
        {
          follow: yes(query.follow),
          ...(tail === undefined ? {} : { tail }),
          ...(sinceMs === undefined ? {} : { sinceMs }),
        },
        { signal: whileThere(reply.raw, parts.signal) },
      )
      const bytes = logBytes(entries, {
        tty,
        timestamps: yes(query.timestamps),
        stdout,
        stderr,
        ...(untilMs === undefined ? {} : { untilMs }),
      })
      const type = tty ? 'application/vnd.docker.raw-stream' : 'application/vnd.docker.multiplexed-stream'
      if (yes(query.follow)) return streamNow(reply, type, bytes)
      return reply.type(type).send(Readable.from(bytes, { objectMode: false }))
    },
  )
}
