/** Progress on a terminal: one line per blob or host, redrawn in place. In a pipe nothing is drawn. */
import type { Writable } from 'node:stream'
import { formatBytes, formatDuration } from '../core/config/units.ts'

/** One line's state. All in bytes since the start, except `total`, which is unknown until somebody said it. */
export interface ProgressRow {
  readonly label: string
  readonly have: number
  readonly total: number | undefined
  /** Bytes per second, averaged by the caller or by {@link RateMeter}. */
  readonly rate: number
  readonly from?: { readonly origin: number; readonly supernode: number; readonly peers: number }
  /** Shown instead of rate and ETA: `done`, `unpacking`. */
  readonly note?: string
}

const MAX_ROWS = 12

/** The lines for `rows`, none longer than `columns`. */
export function renderProgress(rows: readonly ProgressRow[], columns: number): string[] {
  const shown = rows.slice(0, MAX_ROWS)
  const labelWidth = Math.min(24, Math.max(0, ...shown.map((row) => row.label.length)))
  const lines = shown.map((row) => renderRow(row, labelWidth, columns))
  if (rows.length > shown.length) lines.push(`… and ${rows.length - shown.length} more`.slice(0, columns))
  return lines
}

function renderRow(row: ProgressRow, labelWidth: number, columns: number): string {
  const label = row.label.length > labelWidth ? `${row.label.slice(0, labelWidth - 1)}…` : row.label.padEnd(labelWidth)
  const part = row.total === undefined ? undefined : row.total === 0 ? 1 : Math.min(1, row.have / row.total)
  const percent = part === undefined ? '  ?%' : `${String(Math.floor(part * 100)).padStart(3)}%`
  const amount =
    row.total === undefined ? formatBytes(row.have) : `${formatBytes(row.have)} / ${formatBytes(row.total)}`
  const tail = [amount, row.note ?? pace(row), sources(row.from)].filter((text) => text !== '').join('  ')
  const barWidth = Math.min(30, columns - label.length - percent.length - tail.length - 5)
  const bar = barWidth >= 8 && part !== undefined ? ` ${barOf(part, barWidth)}` : ''
  return `${label}${bar} ${percent}  ${tail}`.slice(0, Math.max(1, columns))
}

function barOf(part: number, width: number): string {
  const full = Math.floor(part * width)
  return `[${'='.repeat(full)}${full < width ? '>' : ''}${' '.repeat(Math.max(0, width - full - 1))}]`
}

function pace(row: ProgressRow): string {
  if (row.rate <= 0) return ''
  const speed = `${formatBytes(row.rate)}/s`
  if (row.total === undefined || row.have >= row.total) return speed
  return `${speed}  ETA ${formatDuration(((row.total - row.have) / row.rate) * 1000)}`
}

/** Where the bytes come from, in whole percent: `peers 80% seed 15% origin 5%`. */
function sources(from: ProgressRow['from']): string {
  if (!from) return ''
  const total = from.origin + from.supernode + from.peers
  if (total === 0) return ''
  const named = [
    ['peers', from.peers],
    ['seed', from.supernode],
    ['origin', from.origin],
  ] as const
  return named
    .filter(([, bytes]) => bytes > 0)
    .map(([name, bytes]) => `${name} ${Math.round((bytes / total) * 100)}%`)
    .join(' ')
}

/** A rate over the last few seconds, so that it follows changes but doesn't jump. */
export class RateMeter {
  readonly #windowMs: number
  #samples: { at: number; bytes: number }[] = []

  constructor(windowMs = 3000) {
    this.#windowMs = windowMs
  }

  /** Takes the bytes so far at a time in milliseconds; returns bytes per second. */
  add(bytes: number, atMs: number): number {
    this.#samples.push({ at: atMs, bytes })
    const keep = this.#samples.findIndex((sample) => sample.at >= atMs - this.#windowMs)
    this.#samples = this.#samples.slice(Math.max(0, keep))
    const first = this.#samples[0]
    if (!first || atMs <= first.at) return 0
    return Math.max(0, ((bytes - first.bytes) / (atMs - first.at)) * 1000)
  }
}

/** Draws rows in place on a terminal. `done` leaves the last state; closing erases nothing. */
export class ProgressDisplay implements Disposable {
  readonly #out: Writable & { isTTY?: boolean; columns?: number }
  readonly #everyMs: number
  #drawn = 0
  #lastMs = Number.NEGATIVE_INFINITY
  #rows: readonly ProgressRow[] = []
  #done = false

  /** Draws at most once per `everyMs`; nothing at all when `out` is no terminal or `quiet`. */
  constructor(out: Writable, options: { quiet?: boolean; everyMs?: number } = {}) {
    this.#out = out
    this.#everyMs = options.everyMs ?? 100
    this.#done = options.quiet === true || this.#out.isTTY !== true
  }

  update(rows: readonly ProgressRow[], nowMs: number = performance.now()): void {
    if (this.#done) return
    this.#rows = rows
    if (nowMs - this.#lastMs < this.#everyMs) return
    this.#lastMs = nowMs
    this.#draw()
  }

  /** Draws the last state and stops. Safe to call twice. */
  done(): void {
    if (this.#done) return
    this.#done = true
    if (this.#rows.length > 0) this.#draw()
  }

  [Symbol.dispose](): void {
    this.done()
  }

  #draw(): void {
    const lines = renderProgress(this.#rows, Math.max(20, (this.#out.columns ?? 80) - 1))
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : ''
    this.#out.write(`${up}${lines.map((line) => `\r\u001b[2K${line}\n`).join('')}\u001b[J`)
    this.#drawn = lines.length
  }
}
