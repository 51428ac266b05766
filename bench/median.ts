/** The middle value, or the mean of the two in the middle; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  return Number.isInteger(half) ? ((sorted[half - 1] ?? NaN) + (sorted[half] ?? NaN)) / 2 : (sorted[half | 0] ?? NaN)
}
