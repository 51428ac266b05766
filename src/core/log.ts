/**
 * Logs: pino objects with stable fields. Messages are lower-case constants, values go in fields. One JSON line each in a
 * pipe, a readable line on a terminal. Levels may be set per room: `info,peer/downloader=trace`.
 */
import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

const REDACTED = [
  'authorization',
  'credential',
  'credentials',
  'password',
  'token',
  'secret',
  'joinToken',
  'originProxy',
]

/** Paths that never reach a line in clear, at the top of a record and one level below. */
const redact = {
  paths: REDACTED.flatMap((name) => [name, `*.${name}`, `*.headers.${name}`, `headers.${name}`]),
  censor: '[redacted]',
}

export interface LogOptions {
  /** `trace` … `fatal` or `silent`, and per-room overrides: `info,peer/downloader=trace`. */
  readonly level: string
  /** Readable lines for a terminal instead of JSON. */
  readonly pretty: boolean
  /** In colours, if they are pretty. */
  readonly colour?: boolean
}

/** The root logger; writes to `destination`, by default stderr. */
export async function openLog(options: LogOptions, destination?: DestinationStream): Promise<Log> {
  const { level, rooms } = parseLevels(options.level)
  let stream: DestinationStream = destination ?? pino.destination({ dest: 2, sync: true })
  if (options.pretty) {
    const { default: pretty } = await import('pino-pretty')
    stream = pretty({
      destination: 2,
      sync: true,
      colorize: options.colour === true,
      translateTime: 'SYS:HH:MM:ss.l',
      ignore: 'pid,hostname',
    })
  }
  const root = pino({ level, redact, base: null, errorKey: 'error' }, stream)
  roomLevels.set(root, rooms)
  return root
}

const roomLevels = new WeakMap<Log, ReadonlyMap<string, string>>()

/** A child logger for one room, at the level that `--log-level` names for it, or for its nearest parent folder. */
export function roomLog(root: Log, room: string): Log {
  const rooms = roomLevels.get(root)
  let level: string | undefined
  for (let at = room; at !== '' && level === undefined; at = at.includes('/') ? at.slice(0, at.lastIndexOf('/')) : '') {
    level = rooms?.get(at)
  }
  return root.child({ room }, level === undefined ? {} : { level })
}

/** A logger that says nothing; for tests and for parts used without a daemon. */
export function silentLog(): Log {
  return pino({ level: 'silent' })
}

function parseLevels(text: string): { level: string; rooms: ReadonlyMap<string, string> } {
  const rooms = new Map<string, string>()
  let level = 'info'
  for (const part of text.split(',').map((one) => one.trim())) {
    if (part === '') continue
    const at = part.indexOf('=')
    if (at < 0) level = part
    else rooms.set(part.slice(0, at), part.slice(at + 1))
  }
  return { level, rooms }
}
