/** The flags of `darner run` for rich containers, as members of a {@link CreateRequest}. */

import type { CreateRequest } from '../api/containers-api.ts'
import type { DiskQuota, HookRequest, RichMode, ServiceRequest } from '../api/rich-api.ts'
import { DarnerError } from '../core/errors.ts'
import { text, texts } from './option-values.ts'

const MODES: readonly RichMode[] = ['systemd', 'init', 'dumb-init']
const POINTS: readonly HookRequest['at'][] = ['pre-start', 'post-start', 'pre-stop', 'post-stop']
const INITSCRIPT_TIMEOUT_MS = 300_000

/** Throws BAD_ARGUMENT, naming the flag and what was read. */
export function richOf(options: Readonly<Record<string, unknown>>): Partial<CreateRequest> {
  const mode = text(options, 'rich')
  const services = texts(options, 'service').map(serviceOf)
  const initscript = text(options, 'initscript')
  const hooks = texts(options, 'hook').map(hookOf)
  if (initscript !== undefined) {
    const command = words(initscript)
    hooks.push({ at: 'pre-start', where: 'inside', command, timeoutMs: INITSCRIPT_TIMEOUT_MS })
  }
  const quota = text(options, 'diskQuota')
  return {
    ...(mode === undefined ? {} : { rich: modeOf(mode) }),
    ...(services.length > 0 ? { services } : {}),
    ...(hooks.length > 0 ? { hooks } : {}),
    ...(quota === undefined ? {} : quotasOf(quota)),
    ...(typeof options.lxcfs === 'boolean' ? { lxcfs: options.lxcfs } : {}),
    ...(options.exitWithCommand === true ? { exitWithCommand: true } : {}),
  }
}

function modeOf(given: string): RichMode {
  const found = MODES.find((one) => one === given)
  if (found) return found
  throw new DarnerError('BAD_ARGUMENT', `--rich=${given} is not ${MODES.join(', ')}`)
}

/** `sshd`, or `NAME=COMMAND` with the command's words split at blanks. */
export function serviceOf(given: string): ServiceRequest {
  const at = given.indexOf('=')
  if (at < 0) return { name: given }
  return { name: given.slice(0, at), command: words(given.slice(at + 1)) }
}

/** `POINT:host|inside[:fail|warn]:COMMAND`. */
export function hookOf(given: string): HookRequest {
  const found = /^([a-z-]+):(host|inside):(?:(fail|warn):)?(.+)$/s.exec(given)
  const at = POINTS.find((one) => one === found?.[1])
  if (!found || at === undefined) {
    throw new DarnerError('BAD_ARGUMENT', `--hook ${given} is not POINT:host|inside[:fail|warn]:COMMAND`, {
      way: `POINT is ${POINTS.join(', ')}`,
    })
  }
  const where = found[2] === 'host' ? 'host' : 'inside'
  const onFailure = found[3] === 'fail' || found[3] === 'warn' ? found[3] : undefined
  return { at, where, command: words(found[4] ?? ''), ...(onFailure === undefined ? {} : { onFailure }) }
}

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }
const THOUSANDS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6 }

/**
 * `10G`, for the writable layer, or by path: `/=10G;/data=20G,inodes=200k;log=1G`, where all but `/` and `log` are those of volumes.
 * Throws BAD_ARGUMENT.
 */
export function quotasOf(given: string): Pick<CreateRequest, 'diskQuota' | 'volumeQuotas' | 'logQuotaBytes'> {
  if (!/^\/|^log=/.test(given)) return { diskQuota: quotaOf(given) }
  const rows = given.split(';').map((part): [string, DiskQuota] => {
    const [, path = '', size = ''] = /^(\/[^=]*|log)=(.+)$/.exec(part) ?? []
    if (path === '')
      throw new DarnerError('BAD_ARGUMENT', `--disk-quota ${given}: ${part} is not PATH=SIZE[,inodes=COUNT]`)
    return [path === '/' ? path : path.replace(/\/+$/, ''), quotaOf(size)]
  })
  const all = new Map(rows)
  if (all.size < rows.length) throw new DarnerError('BAD_ARGUMENT', `--disk-quota ${given}: it names a path twice`)
  const [layer, log] = [all.get('/'), all.get('log')]
  if (log?.inodes !== undefined)
    throw new DarnerError('BAD_ARGUMENT', `--disk-quota ${given}: a log is few files, and has a SIZE only`)
  for (const one of ['/', 'log']) all.delete(one)
  return {
    ...(layer === undefined ? {} : { diskQuota: layer }),
    ...(log === undefined ? {} : { logQuotaBytes: log.bytes }),
    ...(all.size === 0 ? {} : { volumeQuotas: Object.fromEntries(all) }),
  }
}

/** `10G`, `10G,inodes=200k`. */
export function quotaOf(given: string): DiskQuota {
  const found = /^(\d+)([kmgt]?)i?b?(?:,inodes=(\d+)([km]?))?$/i.exec(given)
  const bytes = Number(found?.[1]) * (UNITS[found?.[2]?.toLowerCase() ?? ''] ?? Number.NaN)
  if (!found || !Number.isSafeInteger(bytes) || bytes === 0) {
    throw new DarnerError('BAD_ARGUMENT', `--disk-quota ${given} is not SIZE[,inodes=COUNT], such as 10G,inodes=200k`)
  }
  const inodes = found[3] === undefined ? undefined : Number(found[3]) * (THOUSANDS[found[4]?.toLowerCase() ?? ''] ?? 1)
  return { bytes, ...(inodes === undefined ? {} : { inodes }) }
}

function words(command: string): string[] {
  return command.split(/\s+/).filter((one) => one !== '')
}
