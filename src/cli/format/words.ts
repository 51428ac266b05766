/** Times, sizes and commands as docker's lists word them. */

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** How long, in words: `About a minute`, `3 days`. */
export function span(ms: number): string {
  if (ms < SECOND) return 'Less than a second'
  if (ms < 2 * SECOND) return '1 second'
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} seconds`
  if (ms < 2 * MINUTE) return 'About a minute'
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} minutes`
  const hours = Math.round(ms / HOUR)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  const days = Math.floor(ms / DAY)
  if (days < 14) return `${days} days`
  if (days < 60) return `${Math.floor(days / 7)} weeks`
  if (days < 730) return `${Math.floor(days / 30)} months`
  return `${Math.floor(days / 365)} years`
}

/** `since` and `now` in epoch milliseconds. */
export function ago(since: number, now: number): string {
  return `${span(Math.max(0, now - since))} ago`
}

/** Bytes by powers of 1000: `1.23MB`. */
export function size(bytes: number, digits = 3): string {
  return scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB'], digits)
}

/** Bytes by powers of 1024: `1.5MiB`. */
export function binarySize(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'], 4)
}

function scaled(value: number, step: number, units: readonly string[], digits: number): string {
  let at = 0
  let rest = value
  while (rest >= step && at < units.length - 1) {
    rest /= step
    at++
  }
  return `${Number(rest.toPrecision(digits))}${units[at]}`
}

/** Epoch milliseconds as docker's lists have them: `2026-11-24 09:19:43 +0000 UTC`. */
export function stamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} +0000 UTC`
}

/** At most `most` characters, an ellipsis at the end of what was longer. */
export function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text
}

/** Control characters must not reach the terminal. */
export function plain(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll(/\p{Cc}/gu, '?')
}

/** An id without its algorithm, 12 characters unless it is wanted whole. */
export function shortId(id: string, whole = false): string {
  return whole ? id : id.replace(/^sha\d+:/, '').slice(0, 12)
}
