/** What both ways of the demo share: steps with their time, bars, and what is told at the end. */

import { ProgressDisplay, type ProgressRow, RateMeter } from '../../src/cli/progress.ts'
import { formatBytes } from '../../src/core/config/units.ts'
import type { HostBytes } from './tables.ts'

let beganMs = Date.now()

/** When the demo began, epoch milliseconds; the part on the stage is told. */
export function began(atMs?: number): number {
  beganMs = atMs ?? beganMs
  return beganMs
}

/** One line with the seconds since the start. */
export function say(line: string): void {
  const seconds = ((Date.now() - beganMs) / 1000).toFixed(1).padStart(5)
  process.stdout.write(`${seconds} s  ${line}\n`)
}

/** Prints lines under a heading. */
export function block(heading: string, lines: readonly string[]): void {
  process.stdout.write(`\n${heading}\n\n${lines.map((line) => `  ${line}`.trimEnd()).join('\n')}\n`)
}

export interface Transfer {
  readonly have: number
  readonly total: number | undefined
  readonly from: HostBytes['from']
  readonly note?: string
}

/** A live bar per host on a terminal; in a pipe nothing. Hold it with `using`. */
export class Bars implements Disposable {
  readonly #display = new ProgressDisplay(process.stdout)
  readonly #rows = new Map<string, ProgressRow>()
  readonly #meters = new Map<string, RateMeter>()

  constructor(names: readonly string[]) {
    for (const label of names) {
      this.#rows.set(label, { label, have: 0, total: undefined, rate: 0 })
      this.#meters.set(label, new RateMeter())
    }
  }

  show(label: string, { have, total, from, note }: Transfer): void {
    const now = performance.now()
    const rate = this.#meters.get(label)?.add(have, now) ?? 0
    this.#rows.set(label, { label, have, total, rate, from, ...(note === undefined ? {} : { note }) })
    this.#display.update([...this.#rows.values()], now)
  }

  [Symbol.dispose](): void {
    this.#display.done()
  }
}

/** What the figures come to: a line each. */
export function summary(
  { fromOrigin, fromHosts, seeded }: { fromOrigin: number; fromHosts: number; seeded: number },
  hosts: readonly HostBytes[],
): string[] {
  const sum = (pick: (host: HostBytes) => number) => hosts.reduce((total, host) => total + pick(host), 0)
  const got = sum(({ from }) => from.origin + from.supernode + from.peers)
  const given = sum(({ served }) => served) + seeded
  const unwanted = given - fromHosts - sum(({ from }) => from.peers + from.supernode)
  return [
    `The origin sent ${formatBytes(fromOrigin)} for the ${formatBytes(got)} that ${hosts.length} hosts got.`,
    ...(unwanted > 0
      ? [`${formatBytes(unwanted)} of what hosts and supernode gave was no longer wanted when it came.`]
      : []),
  ]
}
