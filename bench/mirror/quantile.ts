/** The middle of measured values, and others of their order. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** The value below which `share` of them are. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
