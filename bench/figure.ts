/** One measured figure of a bench, and how it is shown: a table for people, one JSON line each for programs. */

export interface Figure {
  readonly bench: string
  readonly figure: string
  readonly value: number
  readonly unit: string
  /** What it is compared with: a bound, a rival in the same run, a published figure. */
  readonly anchor?: string
  readonly anchorValue?: number
  /** What is asked of `ratio` (value over anchorValue), or of `value` where there is no anchor: `<=1.1`, `>=2.5`. */
  readonly goal?: string
}

/** A figure with what follows from it. Absent parts are null. */
export interface FigureLine {
  readonly bench: string
  readonly figure: string
  readonly value: number
  readonly unit: string
  readonly anchor: string | null
  readonly anchorValue: number | null
  readonly ratio: number | null
  readonly goal: string | null
  readonly met: boolean | null
}

/** Works out ratio and whether the goal is met. Throws TypeError for a goal that is no comparison. */
export function figureLine(figure: Figure): FigureLine {
  const { anchorValue } = figure
  const ratio = anchorValue === undefined || anchorValue === 0 ? null : figure.value / anchorValue
  return {
    bench: figure.bench,
    figure: figure.figure,
    value: figure.value,
    unit: figure.unit,
    anchor: figure.anchor ?? null,
    anchorValue: anchorValue ?? null,
    ratio,
    goal: figure.goal ?? null,
    met: figure.goal === undefined ? null : meets(ratio ?? figure.value, figure.goal),
  }
}

function meets(value: number, goal: string): boolean {
  const match = /^(<=|>=|<|>|=)\s*(-?\d+(?:\.\d+)?)$/.exec(goal)
  const bound = Number(match?.[2])
  switch (match?.[1]) {
    case '<=':
      return value <= bound
    case '>=':
      return value >= bound
    case '<':
      return value < bound
    case '>':
      return value > bound
    case '=':
      return value === bound
    default:
      throw new TypeError(`goal ${JSON.stringify(goal)}: expected a comparison such as <=1.1`)
  }
}

/** `NO, by 0.12`: what the ratio, or the value, is away from the goal. */
function missedBy({ value, ratio, goal }: FigureLine): string {
  const bound = Number(/[\d.-]+$/.exec(goal ?? '')?.[0])
  return `NO, by ${short(Number(Math.abs((ratio ?? value) - bound).toPrecision(3)))}`
}

const COLUMNS = ['figure', 'value', 'unit', 'anchor', 'anchor value', 'ratio', 'goal', 'met'] as const

/** The figures as lines of a table. */
export function figureTable(figures: readonly Figure[]): string[] {
  const rows = figures
    .map(figureLine)
    .map((line) => [
      line.figure,
      short(line.value),
      line.unit,
      line.anchor ?? '',
      line.anchorValue === null ? '' : short(line.anchorValue),
      line.ratio === null ? '' : line.ratio.toFixed(3),
      line.goal ?? '',
      line.met === null ? '' : line.met ? 'met' : missedBy(line),
    ])
  const all = [[...COLUMNS], ...rows]
  const widths = COLUMNS.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)))
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

function short(value: number): string {
  if (Number.isInteger(value)) return String(value)
  return Math.abs(value) >= 100 ? value.toFixed(1) : Number(value.toPrecision(4)).toString()
}
