/**
 * Life cycles as tables: `{ from, on, to }` rows in one file, run by this small machine. Docs and tests read the same rows, and
 * an event that has no row in a state is an error with a code.
 */
import { DarnerError } from './errors.ts'

/** One transition: in any state of `from`, event `on` leads to `to`. */
export interface Row<State extends string, Event extends string> {
  readonly from: State | readonly State[]
  readonly on: Event
  readonly to: State
  /** Why or when, for the reference page. */
  readonly note?: string
}

export interface StateTable<State extends string, Event extends string> {
  /** What lives through it, as messages name it: `container`, `task`. */
  readonly subject: string
  readonly initial: State
  readonly rows: readonly Row<State, Event>[]
  /** The state after `on` in `from`, or undefined when the table has no such row. */
  next(from: State, on: Event): State | undefined
  /** Like {@link next}, but throws STATE_INVALID naming `which` thing, its state and the event. */
  step(from: State, on: Event, which: string): State
  /** The events that have a row in `from`. */
  events(from: State): Event[]
  /** Every state that the rows name, the initial one first. */
  states(): State[]
}

/** Checks the rows (one target per state and event) and returns the table. A doubled row is a mistake in the program: it throws INTERNAL. */
export function stateTable<State extends string, Event extends string>(
  subject: string,
  initial: State,
  rows: readonly Row<State, Event>[],
): StateTable<State, Event> {
  const targets = new Map<State, Map<Event, State>>([[initial, new Map()]])
  for (const row of rows) {
    for (const from of typeof row.from === 'string' ? [row.from] : row.from) {
      const events = targets.get(from) ?? new Map<Event, State>()
      if (events.has(row.on)) throw new DarnerError('INTERNAL', `${subject} table: two rows for ${row.on} in ${from}`)
      events.set(row.on, row.to)
      targets.set(from, events)
    }
    if (!targets.has(row.to)) targets.set(row.to, new Map())
  }
  const next = (from: State, on: Event) => targets.get(from)?.get(on)
  return {
    subject,
    initial,
    rows,
    next,
    step(from, on, which) {
      const to = next(from, on)
      if (to === undefined) {
        throw new DarnerError('STATE_INVALID', `${subject} ${which} is ${from}: ${on} is not possible`, {
          details: { subject, which, state: from, event: on },
        })
      }
      return to
    },
    events: (from) => [...(targets.get(from)?.keys() ?? [])],
    states: () => [...targets.keys()],
  }
}

/** The table as Markdown, one line per row, for the reference page. */
export function tableMarkdown<State extends string, Event extends string>(table: StateTable<State, Event>): string {
  const lines = table.rows.map(
    (row) =>
      `| ${typeof row.from === 'string' ? row.from : row.from.join(', ')} | ${row.on} | ${row.to} | ${row.note ?? ''} |`,
  )
  return ['| from | on | to | note |', '|---|---|---|---|', ...lines, ''].join('\n')
}
