/** Piece numbers as runs, so that many small news become few. */

/** `count` pieces from number `from` on. */
export type PieceRun = [from: number, count: number]

/** Adds a run to others, growing the last one where it follows that. */
export function addRun(runs: PieceRun[], from: number, count: number): void {
  const last = runs.at(-1)
  if (last !== undefined && last[0] + last[1] === from) last[1] += count
  else runs.push([from, count])
}
