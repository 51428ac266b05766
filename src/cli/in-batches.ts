/** Work on many containers, a few at a time, until too many have failed. */

export interface Batched<T> {
  readonly done: readonly { readonly name: string; readonly value: T }[]
  readonly failed: readonly { readonly name: string; readonly error: unknown }[]
  /** Those that were not begun, because the budget of failures was used up. */
  readonly left: readonly string[]
}

/** `atOnce` side by side; after more than `mostFailures` nothing is begun any more, and what was begun is waited for. */
export async function inBatches<T>(
  names: readonly string[],
  { atOnce, mostFailures }: { readonly atOnce: number; readonly mostFailures: number },
  work: (name: string) => Promise<T>,
): Promise<Batched<T>> {
  const left = [...names]
  const done: { name: string; value: T }[] = []
  const failed: { name: string; error: unknown }[] = []
  const worker = async () => {
    while (failed.length <= mostFailures) {
      const name = left.shift()
      if (name === undefined) return
      try {
        done.push({ name, value: await work(name) })
      } catch (error) {
        failed.push({ name, error })
      }
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, atOnce) }, worker))
  return { done, failed, left }
}
