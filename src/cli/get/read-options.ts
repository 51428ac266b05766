/** From parsed flags to {@link Ways}, request headers and where to write; everything that is wrong with them is said here. */
import { readFileSync } from 'node:fs'
import { parseRate } from '../../core/config/units.ts'
import { DarnerError, systemCode } from '../../core/errors.ts'
import type { Credential } from '../../core/task/origin.ts'
import { isOwnHeader } from '../../origin/own-header.ts'
import type { Range, Ways } from './order.ts'

type Options = Readonly<Record<string, unknown>>

/** Throws BAD_ARGUMENT. */
export async function readWays(options: Options): Promise<Ways> {
  const insecure = options.insecure === true
  const ca = typeof options.cacert === 'string' ? pemOf(options.cacert) : undefined
  const ways: Ways = {
    range: typeof options.range === 'string' ? rangeOf(options.range) : undefined,
    rateBytesPerSec: typeof options.limitRate === 'string' ? rateOf(options.limitRate) : undefined,
    retries: typeof options.retry === 'number' ? options.retry : undefined,
    resume: options.resume !== false,
    priority: oneOf('--priority', options.priority, ['interactive', 'background']) ?? 'interactive',
    fromOrigin: oneOf('--from-origin', options.fromOrigin, ['never', 'fallback', 'only']) ?? 'fallback',
    tls:
      insecure || ca !== undefined ? { ...(ca === undefined ? {} : { ca }), ...(insecure && { insecure }) } : undefined,
    proxy: typeof options.proxy === 'string' ? await proxyOf(options.proxy) : undefined,
    remoteTime: options.remoteTime === true,
  }
  if (ways.fromOrigin === 'never' && (ways.tls !== undefined || ways.proxy !== undefined)) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      '--cacert, --insecure and --proxy are for reading the origin, which --from-origin never forbids',
    )
  }
  return ways
}

function oneOf<T extends string>(flag: string, value: unknown, words: readonly T[]): T | undefined {
  if (value === undefined) return undefined
  const found = words.find((word) => word === value)
  if (found === undefined)
    throw new DarnerError('BAD_ARGUMENT', `${flag} ${String(value)}: expected ${words.join(', ')}`)
  return found
}

/** As curl writes it: `0-499`, `500-`, `-500`. One range only. */
function rangeOf(text: string): Range {
  const form = /^(\d{0,15})-(\d{0,15})$/.exec(text)
  const [, first = '', last = ''] = form ?? []
  const wrong = () =>
    new DarnerError('BAD_ARGUMENT', `--range ${text}: expected FIRST-LAST, FIRST- or -COUNT, in bytes`)
  if (form === null || (first === '' && (last === '' || Number(last) === 0))) throw wrong()
  if (first === '') return { last: Number(last) }
  if (last === '') return { from: Number(first) }
  if (Number(last) < Number(first)) throw wrong()
  return { from: Number(first), to: Number(last) + 1 }
}

function rateOf(text: string): number {
  const rate = parseRate(text)
  if (rate === undefined || rate < 1)
    throw new DarnerError('BAD_ARGUMENT', `--limit-rate ${text}: expected a rate such as 500K or 20MiB/s`)
  return rate
}

function pemOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new DarnerError('BAD_ARGUMENT', `--cacert ${path}: it cannot be read (${systemCode(error)})`, {
      cause: error,
    })
  }
}

async function proxyOf(text: string): Promise<string> {
  const { proxyUrl } = await import('../../origin/proxy-env.ts')
  const url = proxyUrl(text)
  const { protocol } = URL.canParse(url) ? new URL(url) : { protocol: '' }
  if (!['http:', 'https:', 'socks5:'].includes(protocol))
    throw new DarnerError('BAD_ARGUMENT', '--proxy: expected [http|https|socks5://][NAME:PASSWORD@]HOST[:PORT]')
  return url
}

export interface RequestHeaders {
  readonly headers: Readonly<Record<string, string>>
  readonly credential: Credential | undefined
}

/** What a header that this command sends by itself is asked for by instead; silently left out it would bring something else. */
const OWN_WAYS: Readonly<Record<string, string>> = {
  range: 'use --range',
  host: 'name the host in the URL',
  'if-none-match': 'whether the content changed is asked anyway',
  'if-modified-since': 'whether the content changed is asked anyway',
  'proxy-authorization': 'give NAME:PASSWORD@ in the URL of --proxy',
}

/** `-H NAME: VALUE`, repeated; `Authorization` is the credential. */
export function readHeaders(options: Options): RequestHeaders {
  const headers: Record<string, string> = {}
  let credential: Credential | undefined
  for (const line of (options.header as string[] | undefined) ?? []) {
    const at = line.indexOf(':')
    const name = line.slice(0, at).trim().toLowerCase()
    const value = line.slice(at + 1).trim()
    if (at < 1 || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name))
      throw new DarnerError('BAD_ARGUMENT', `header ${JSON.stringify(line)} is not NAME: VALUE`)
    if (isOwnHeader(name)) {
      const way = OWN_WAYS[name]
      throw new DarnerError('BAD_ARGUMENT', `header ${name} can't be given: darner sends its own`, {
        ...(way === undefined ? {} : { way }),
      })
    }
    if (name === 'authorization') credential = { kind: 'header', value }
    else headers[name] = value
  }
  return { headers, credential }
}
