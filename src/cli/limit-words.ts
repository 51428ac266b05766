/** How people write what a rate limit is on, and how it is shown to them. */

import type { LimitList, LimitScope, UploadYield } from '../api/care-api.ts'
import { formatBytes, parseRate } from '../core/config/units.ts'
import { DarnerError } from '../core/errors.ts'

/** The words of the settings downloadRate and uploadRate, and what the agent calls them. */
const WAYS = { in: 'download', out: 'upload' } as const
const DIRECTIONS: Readonly<Record<string, 'in' | 'out'>> = { download: 'in', upload: 'out' }

/** `host`, `download`, `upload`, `task:…`, `peer:…` or `origin:…`. Throws BAD_ARGUMENT. */
export function scopeOf(text: string, direction: unknown): LimitScope {
  const toward = DIRECTIONS[String(direction)]
  if (direction !== undefined && toward === undefined)
    throw new DarnerError(
      'BAD_ARGUMENT',
      `limit set --direction ${JSON.stringify(direction)}: expected download or upload`,
    )
  const way: { direction?: 'in' | 'out' } = toward === undefined ? {} : { direction: toward }
  const [kind = '', name = ''] = [text.split(':', 1)[0], text.slice(text.indexOf(':') + 1)]
  if (text === 'host') return { on: 'host' }
  if (DIRECTIONS[text] !== undefined) return { on: 'direction', direction: DIRECTIONS[text] }
  if (text.includes(':') && name !== '') {
    if (kind === 'task') return { on: 'task', task: name, ...way }
    if (kind === 'peer') return { on: 'peer', peer: name, ...way }
    if (kind === 'origin') return { on: 'origin', origin: name }
  }
  throw new DarnerError(
    'BAD_ARGUMENT',
    `limit set ${JSON.stringify(text)}: expected host, download, upload, task:DIGEST, peer:PEERID, origin:HOST or yield`,
  )
}

/** The limit that `20MiB/s` means; undefined for `off` and 0. Throws BAD_ARGUMENT. */
export function limitOf(text: string, borrow: boolean): LimitList['limits'][number]['limit'] | undefined {
  if (text === 'off') return undefined
  const bytesPerSec = parseRate(text)
  if (bytesPerSec === 0) return undefined
  if (bytesPerSec === undefined)
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
  const way = 'direction' in scope && scope.on !== 'direction' && scope.direction ? ` ${WAYS[scope.direction]}` : ''
  switch (scope.on) {
    case 'host':
      return `host  ${rate}`
    case 'direction':
      return `${WAYS[scope.direction]}  ${rate}`
    case 'class':
      return `${scope.priority} ${WAYS[scope.direction]}  ${rate}`
    case 'origin':
      return `origin:${scope.origin}  ${rate}`
    case 'task':
      return `task:${scope.task}${way}  ${rate}`
    case 'peer':
      return `peer:${scope.peer}${way}  ${rate}`
  }
}
