/** A time-ordered event queue on typed arrays: millions of events without a garbage collector's notice. */

/** One event: `kind` and three whole numbers that mean what the kind says. */
export interface SimEvent {
  atMs: number
  kind: number
  a: number
  b: number
  c: number
}

const WAYS = 4

export class EventQueue {
  #times = new Float64Array(1024)
  #slots = new Int32Array(1024)
  #kinds = new Uint8Array(1024)
  #data = new Int32Array(3 * 1024)
  readonly #spare: number[] = []
  #used = 0
  #size = 0
  /** Filled by {@link pop}, and only good until the next one. */
  readonly event: SimEvent = { atMs: 0, kind: 0, a: 0, b: 0, c: 0 }

  get size(): number {
    return this.#size
  }

  push(atMs: number, kind: number, a = 0, b = 0, c = 0): void {
    const slot = this.#spare.pop() ?? this.#used++
    if (slot >= this.#kinds.length || this.#size >= this.#times.length) this.#grow()
    this.#kinds[slot] = kind
    this.#data[slot * 3] = a
    this.#data[slot * 3 + 1] = b
    this.#data[slot * 3 + 2] = c
    const times = this.#times
    const slots = this.#slots
    let at = this.#size++
    while (at > 0) {
      const up = ((at - 1) / WAYS) | 0
      const upTime = times[up] ?? 0
      if (upTime <= atMs) break
      times[at] = upTime
      slots[at] = slots[up] ?? 0
      at = up
    }
    times[at] = atMs
    slots[at] = slot
  }

  /** Takes the earliest event into {@link event}; false when there is none. */
  pop(): boolean {
    if (this.#size === 0) return false
    const times = this.#times
    const slots = this.#slots
    const slot = slots[0] ?? 0
    const { event } = this
    event.atMs = times[0] ?? 0
    event.kind = this.#kinds[slot] ?? 0
    event.a = this.#data[slot * 3] ?? 0
    event.b = this.#data[slot * 3 + 1] ?? 0
    event.c = this.#data[slot * 3 + 2] ?? 0
    this.#spare.push(slot)
    const size = --this.#size
    const lastTime = times[size] ?? 0
    const lastSlot = slots[size] ?? 0
    let at = 0
    for (;;) {
      const first = at * WAYS + 1
      if (first >= size) break
      let least = first
      let leastTime = times[first] ?? 0
      const end = Math.min(first + WAYS, size)
      for (let child = first + 1; child < end; child++) {
        const time = times[child] ?? 0
        if (time < leastTime) {
          least = child
          leastTime = time
        }
      }
      if (leastTime >= lastTime) break
      times[at] = leastTime
      slots[at] = slots[least] ?? 0
      at = least
    }
    times[at] = lastTime
    slots[at] = lastSlot
    return true
  }

  #grow(): void {
    const size = this.#kinds.length * 2
    const grown = <T extends Float64Array | Int32Array | Uint8Array>(into: T, from: T): T => {
      into.set(from)
      return into
    }
    this.#times = grown(new Float64Array(size), this.#times)
    this.#slots = grown(new Int32Array(size), this.#slots)
    this.#kinds = grown(new Uint8Array(size), this.#kinds)
    this.#data = grown(new Int32Array(size * 3), this.#data)
  }
}
