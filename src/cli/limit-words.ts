/** How people write what a rate limit is on, and how it is shown to them. */

import type { LimitList, LimitScope, UploadYield } from '../api/care-api.ts'
import { formatBytes, parseRate } from '../core/config/units.ts'
import { DarnerError } from '../core/errors.ts'

/** `host`, `in`, `out`, `task:…`, `peer:…` or `origin:…`. Throws BAD_ARGUMENT. */
export function scopeOf(text: string, direction: unknown): LimitScope {
  if (direction !== undefined && direction !== 'in' && direction !== 'out')
    throw new DarnerError('BAD_ARGUMENT', `limit set --direction ${JSON.stringify(direction)}: expected in or out`)
  const way: { direction?: 'in' | 'out' } = direction === undefined ? {} : { direction }
  const [kind = '', name = ''] = [text.split(':', 1)[0], text.slice(text.indexOf(':') + 1)]
  if (text === 'host') return { on: 'host' }
  if (text === 'in' || text === 'out') return { on: 'direction', direction: text }
  if (text.includes(':') && name !== '') {
    if (kind === 'task') return { on: 'task', task: name, ...way }
    if (kind === 'peer') return { on: 'peer', peer: name, ...way }
    if (kind === 'origin') return { on: 'origin', origin: name }
  }
  throw new DarnerError(
    'BAD_ARGUMENT',
    `limit set ${JSON.stringify(text)}: expected host, in, out, task:DIGEST, peer:PEERID, origin:HOST or yield`,
  )
}

/** The limit that `20MiB/s` means; undefined for `off`. Throws BAD_ARGUMENT. */
export function limitOf(text: string, borrow: boolean): LimitList['limits'][number]['limit'] | undefined {
  if (text === 'off') return undefined
  const bytesPerSec = parseRate(text)
  if (bytesPerSec === undefined || bytesPerSec < 1)
    throw new DarnerError(
      'BAD_ARGUMENT',
      `limit set … ${JSON.stringify(text)}: expected a rate such as 20MiB/s, or off`,
    )
  return { bytesPerSec, ...(borrow ? { borrow } : {}) }
}

/** What `limit set yield WHAT` means. Throws BAD_ARGUMENT. */
export function yieldOf(text: string): UploadYield {
  if (text === 'off') return 'none'
  if (text === 'none' || text === 'background' || text === 'all') return text
  throw new DarnerError(
    'BAD_ARGUMENT',
    `limit set yield ${JSON.stringify(text)}: expected none, background (what goes to preheats) or all`,
  )
}

/** The lines of `darner limit`. */
export function limitLines({ limits, uploadYield }: LimitList): string[] {
  const lines = limits.map(limitText)
  if (uploadYield !== 'none') lines.push(`yield  ${uploadYield}`)
  return lines.length === 0 ? ['no limits'] : lines
}

/** One line. */
function limitText({ scope, limit }: LimitList['limits'][number]): string {
  const rate = `${formatBytes(limit.bytesPerSec)}/s${limit.borrow ? ', may borrow' : ''}`
  const way = 'direction' in scope && scope.on !== 'direction' && scope.direction ? ` ${scope.direction}` : ''
  switch (scope.on) {
    case 'host':
      return `host  ${rate}`
    case 'direction':
      return `${scope.direction}  ${rate}`
    case 'class':
      return `${scope.priority} ${scope.direction}  ${rate}`
    case 'origin':
      return `origin:${scope.origin}  ${rate}`
    case 'task':
      return `task:${scope.task}${way}  ${rate}`
    case 'peer':
      return `peer:${scope.peer}${way}  ${rate}`
  }
}
