/** Sets of beds that the project is judged by: each row is one bed with its goals, played in several variants of which the worst counts. */
import { type Goals, USUAL_GOALS } from './figures.ts'

export interface Row {
  readonly name: string
  /** As the command line says it. */
  readonly bed: Readonly<Record<string, string | boolean>>
  readonly goals: Goals
}

const SMALL = { hosts: '28', mbit: '3', size: '16M' }

/** Fresh daemons on quiet links. */
const COLD: readonly Row[] = [
  row('8x100', { hosts: '8', mbit: '100', size: '100M' }, { first: 1.25 }),
  row('8x25', { hosts: '8', mbit: '25', size: '50M' }),
  row('16x10', { hosts: '16', mbit: '10', size: '50M' }),
  row('28x3', SMALL),
  row('28x5', { hosts: '28', mbit: '5', size: '32M' }),
  row('40x3', { hosts: '40', mbit: '3', size: '16M' }),
  row('28x3-slow', { ...SMALL, 'slow-host': '0.1', 'leave-slow': true }, { first: 1.25, warm: 1.25 }),
]

/** What goes wrong. Goals are those of the undisturbed row, and what a mishap may cost on top. */
const LUCK: readonly Row[] = [
  row('6x100-killed', { hosts: '6', mbit: '100', size: '100M', 'kill-supernode-at': '4' }, killed(1.25)),
  row('28x3-killed', { ...SMALL, 'kill-supernode-at': '15' }, killed(1.2)),
  row('28x3-lossy', { ...SMALL, loss: '1' }, { first: 1.8, warm: 1.8, originCopies: 1.2 }),
]

export const SETS: Readonly<Record<string, readonly Row[]>> = { cold: COLD, luck: LUCK }

/** The beds of a row, as the command line would say them: with each congestion control and burst, or with those that are given. */
export function variantsOf(
  { bed }: Row,
  given: { readonly congestion: string | undefined; readonly burst: string | undefined },
): Record<string, string | boolean>[] {
  const controls = given.congestion === undefined ? ['bbr', 'cubic'] : [given.congestion]
  const bursts = given.burst === undefined ? ['64K', '16K'] : [given.burst]
  return controls.flatMap((congestion) => bursts.map((burst) => ({ ...bed, congestion, burst })))
}

function row(name: string, bed: Row['bed'], goals: Partial<Goals> = {}): Row {
  return { name, bed, goals: { ...USUAL_GOALS, ...goals } }
}

function killed(first: number): Goals {
  return { first: 2 * first, warm: 2 * first, originCopies: 2 }
}
