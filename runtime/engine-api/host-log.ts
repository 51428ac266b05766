/** What docker's HostConfig says about logs: driver and its options. */
import type { LogConfig } from '../../src/api/container-options.ts'
import { StatusError } from './errors.ts'

const SIZE = /^(\d+)\s*([kmgt]?)b?$/i
const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1 << 10, m: 1 << 20, g: 1 << 30, t: 2 ** 40 }

/** Undefined where the engine's own way is asked for. Throws 400. */
export function readLogConfig(
  asked:
    | { readonly Type?: string | null; readonly Config?: Readonly<Record<string, string>> | null }
    | null
    | undefined,
): LogConfig | undefined {
  const driver = asked?.Type || 'json-file'
  const options = asked?.Config ?? {}
  if (driver !== 'json-file' && driver !== 'local' && driver !== 'none' && driver !== 'journald')
    throw new StatusError(400, `logger: no log driver named '${driver}' is registered`)
  const kept = driver === 'local' ? 'json-file' : driver
  const unknown = Object.keys(options).find((one) => kept !== 'json-file' || !['max-size', 'max-file'].includes(one))
  if (unknown !== undefined) throw new StatusError(400, `unknown log opt '${unknown}' for ${driver} log driver`)
  const size = options['max-size']
  const files = options['max-file']
  const [, number, unit = ''] = SIZE.exec(size ?? '') ?? []
  if (size !== undefined && size !== '-1' && number === undefined) throw new StatusError(400, `invalid size: '${size}'`)
  if (files !== undefined && !/^[1-9]\d{0,2}$/.test(files))
    throw new StatusError(400, 'max-file must be a number that is at least 1')
  if (!asked?.Type && number === undefined && files === undefined) return undefined
  return {
    driver: kept,
    ...(number === undefined ? {} : { maxBytes: Math.max(4096, Number(number) * (UNITS[unit.toLowerCase()] ?? 1)) }),
    ...(files === undefined ? {} : { maxFiles: Number(files) }),
  }
}
