/** Options of an `LRUCache` of at most `most` entries whose memory grows as it fills; `max` would take memory for all of them at once. */
export function upTo(most: number): { readonly maxSize: number; readonly sizeCalculation: () => number } {
  return { maxSize: most, sizeCalculation: one }
}

function one(): number {
  return 1
}
