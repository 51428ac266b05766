/** The log of a container, or of one of its side services. */
import { DarnerError } from '../../src/core/errors.ts'
import { serviceBundle } from '../shim/bundle.ts'
import type { LogEntry } from '../shim/log-lines.ts'
import { readLog } from '../shim/logs.ts'
import type { Entry } from './entry.ts'
import { ALIVE } from './states.ts'

export interface LogsAsked {
  readonly follow?: boolean
  readonly tail?: number
  readonly sinceMs?: number
  readonly untilMs?: number
  /** Name of a side service. */
  readonly service?: string
}

/** Follows until the container ends, when asked to and it runs. Throws NOT_FOUND for a side service that it doesn't have. */
export function logsOf(entry: Entry, query: LogsAsked, { signal }: { signal: AbortSignal }): AsyncGenerator<LogEntry> {
  const { service } = query
  const { services = [] } = entry.record.request
  if (service !== undefined && !services.some(({ name }) => name === service)) {
    throw new DarnerError('NOT_FOUND', `logs of ${entry.name}: it has no side service ${service}`, {
      way: services.length > 0 ? `it has ${services.map(({ name }) => name).join(', ')}` : 'darner ps --services',
    })
  }
  const { log } = service === undefined ? entry.bundle : serviceBundle(entry.bundle, service)
  const follow = query.follow === true && ALIVE.includes(entry.record.status)
  const asked = {
    ...(query.tail === undefined ? {} : { tail: query.tail }),
    ...(query.sinceMs === undefined ? {} : { sinceMs: query.sinceMs }),
    ...(query.untilMs === undefined ? {} : { untilMs: query.untilMs }),
  }
  return follow ? followed(log, asked, entry.ended, signal) : readLog(log, asked, { signal })
}

/** A reader that stops doesn't wait for the end. */
async function* followed(
  log: string,
  asked: Pick<LogsAsked, 'tail' | 'sinceMs' | 'untilMs'>,
  ended: Entry['ended'],
  signal: AbortSignal,
): AsyncGenerator<LogEntry> {
  const over = new AbortController()
  try {
    yield* readLog(log, { ...asked, until: ended.wait({ signal: over.signal }) }, { signal })
  } finally {
    over.abort()
  }
}
