/** Work side by side of which nothing goes on behind the caller's back. */

/** Waits until each has ended, and then throws what the first of those that failed threw. */
export async function allOver(works: readonly Promise<unknown>[]): Promise<void> {
  await Promise.allSettled(works)
  await Promise.all(works)
}
