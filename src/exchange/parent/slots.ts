/**
 * Upload slots: how many pieces leave this host at a time, and whose turn it is. A slot serves one piece. Interactive children come before
 * background ones, and within a class children take turns, however much each asks for. A slot whose child doesn't read, or that waits for a
 * rate limit, doesn't count, so that it holds nobody up.
 *
 * The number of slots follows the measured uplink: one more while that moves more bytes, one fewer while it makes no difference. The fewer
 * pieces share an uplink, the sooner each is whole and can be passed on.
 */
import type { Priority } from '../../core/contracts/content.ts'

export interface SlotOptions {
  readonly minSlots: number
  readonly startSlots: number
  readonly maxSlots: number
  /** Pieces in service for one child at a time. */
  readonly perChild: number
  /** A slot without progress for this long doesn't count. */
  readonly stalledMs: number
  /** All pieces in service that hold buffers, stalled ones too: what bounds memory. */
  readonly maxInService: number
  /** When `maxInService` is reached, a slot stalled for this long loses its child. */
  readonly evictMs: number
}

export const SLOT_DEFAULTS: SlotOptions = {
  minSlots: 2,
  startSlots: 4,
  maxSlots: 32,
  perChild: 1,
  stalledMs: 250,
  maxInService: 64,
  evictMs: 5000,
}

/** Something to serve: one piece of one channel. */
export interface Job {
  /** The child it is for; equal objects share a turn. */
  readonly child: object
  readonly priority: Priority
  /** Called with the slot when the turn comes; must release it. */
  start(slot: Slot): void
  /** Called when the child has read nothing for a while: the slot doesn't count for now. */
  stalled(): void
  /** Called when the slot is needed more by others: the child has been stalled for long. */
  evict(): void
}

export class Slot {
  readonly job: Job
  readonly #slots: UploadSlots
  #released = false
  #parked = false
  progressAtMs: number
  /** Its job knows that it stands still. */
  told = false

  constructor(slots: UploadSlots, job: Job, nowMs: number) {
    this.#slots = slots
    this.job = job
    this.progressAtMs = nowMs
  }

  get parked(): boolean {
    return this.#parked
  }

  /** True when this piece should step back, between two segments, for an interactive one that its slot would go to. */
  get shouldYield(): boolean {
    return this.job.priority === 'background' && this.#slots.interactiveWaitsFor(this)
  }

  /** `bytes` went out. */
  moved(bytes: number): void {
    this.#slots.moved(this, bytes)
  }

  /** Says that the piece waits for a limit or for credit: others may go. */
  park(parked: boolean): void {
    if (this.#parked === parked || this.#released) return
    this.#parked = parked
    this.#slots.parked(this)
  }

  /** Gives the slot back. Safe to call twice. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#slots.released(this)
  }
}

/** Takes turns among the children of one class. */
class Ring {
  readonly #queues = new Map<object, Job[]>()

  get size(): number {
    return this.#queues.size
  }

  push(job: Job): void {
    const queue = this.#queues.get(job.child)
    if (queue === undefined) this.#queues.set(job.child, [job])
    else queue.push(job)
  }

  /** Whether a child that may go waits. */
  some(mayGo: (child: object) => boolean): boolean {
    for (const child of this.#queues.keys()) if (mayGo(child)) return true
    return false
  }

  /** The next job of the first child that may go; that child then goes to the end. */
  next(mayGo: (child: object) => boolean): Job | undefined {
    for (const [child, queue] of this.#queues) {
      if (!mayGo(child)) continue
      const job = queue.shift()
      this.#queues.delete(child)
      if (queue.length > 0) this.#queues.set(child, queue)
      return job
    }
    return undefined
  }

  drop(child: object): void {
    this.#queues.delete(child)
  }
}

export class UploadSlots {
  readonly #options: SlotOptions
  readonly #nowMs: () => number
  readonly #interactive = new Ring()
  readonly #background = new Ring()
  readonly #active = new Set<Slot>()
  readonly #perChild = new Map<object, number>()
  #parkedCount = 0
  #limit: number
  #movedBytes = 0
  #lastRate = 0
  #step = 1
  #measuredAtMs: number
  #pumping = false

  /** `nowMs` is a monotonic clock. */
  constructor(options: SlotOptions, parts: { nowMs: () => number }) {
    this.#options = options
    this.#nowMs = parts.nowMs
    this.#limit = options.startSlots
    this.#measuredAtMs = parts.nowMs()
  }

  get limit(): number {
    return this.#limit
  }

  get inService(): number {
    return this.#active.size
  }

  /** Not one of a child that already has its most pieces in service: it would give its turn to the piece that stepped back for it. */
  interactiveWaitsFor({ job, parked }: Slot): boolean {
    const own = parked ? 0 : 1
    return this.#interactive.some((child) => this.#mayGo(child, child === job.child ? own : 0))
  }

  enqueue(job: Job): void {
    if (job.priority === 'interactive') this.#interactive.push(job)
    else this.#background.push(job)
    this.#pump()
  }

  /** Forgets what waits for a child that is gone; what is in service is released by itself. */
  drop(child: object): void {
    this.#interactive.drop(child)
    this.#background.drop(child)
  }

  /** Call a few times a second: counts out stalled slots and adapts the number of slots to what was measured. */
  tick(): void {
    const nowMs = this.#nowMs()
    const seconds = (nowMs - this.#measuredAtMs) / 1000
    if (seconds >= 0.4) {
      this.#adapt(this.#movedBytes / seconds)
      this.#movedBytes = 0
      this.#measuredAtMs = nowMs
    }
    for (const slot of this.#active) {
      if (slot.parked || slot.told || slot.progressAtMs > nowMs - this.#options.stalledMs) continue
      slot.told = true
      slot.job.stalled()
    }
    if (this.#waits && this.#working >= this.#options.maxInService) this.#evict(nowMs)
    this.#pump()
  }

  moved(slot: Slot, bytes: number): void {
    slot.progressAtMs = this.#nowMs()
    slot.told = false
    this.#movedBytes += bytes
  }

  parked(slot: Slot): void {
    const { child } = slot.job
    this.#count(child, slot.parked ? -1 : 1)
    this.#parkedCount += slot.parked ? 1 : -1
    slot.progressAtMs = this.#nowMs()
    if (slot.parked) this.#pump()
  }

  released(slot: Slot): void {
    this.#active.delete(slot)
    if (slot.parked) this.#parkedCount--
    else this.#count(slot.job.child, -1)
    this.#pump()
  }

  get #waits(): boolean {
    return this.#interactive.size > 0 || this.#background.size > 0
  }

  /** Slots that hold a buffer; one that waits for a limit holds none. */
  get #working(): number {
    return this.#active.size - this.#parkedCount
  }

  #adapt(rate: number): void {
    const { minSlots, maxSlots } = this.#options
    if (!this.#waits || rate === 0) {
      this.#lastRate = 0
      return
    }
    if (this.#lastRate === 0) this.#step = 1
    else if (rate < this.#lastRate * 0.95) this.#step = -this.#step
    else if (rate < this.#lastRate * 1.05) this.#step = -1
    this.#lastRate = rate
    this.#limit = Math.max(minSlots, Math.min(maxSlots, this.#limit + this.#step))
  }

  #evict(nowMs: number): void {
    let worst: Slot | undefined
    for (const slot of this.#active) {
      if (!slot.parked && (worst === undefined || slot.progressAtMs < worst.progressAtMs)) worst = slot
    }
    if (worst !== undefined && nowMs - worst.progressAtMs >= this.#options.evictMs) worst.job.evict()
  }

  #pump(): void {
    // a job that starts may park or release at once, which comes back here
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (this.#waits && this.#working < this.#options.maxInService && this.#counted() < this.#limit) {
        const mayGo = (child: object) => this.#mayGo(child)
        const job = this.#interactive.next(mayGo) ?? this.#background.next(mayGo)
        if (job === undefined) break
        const slot = new Slot(this, job, this.#nowMs())
        this.#active.add(slot)
        this.#count(job.child, 1)
        job.start(slot)
      }
    } finally {
      this.#pumping = false
    }
  }

  /** `freed` of its pieces in service are about to end. */
  #mayGo(child: object, freed = 0): boolean {
    return (this.#perChild.get(child) ?? 0) - freed < this.#options.perChild
  }

  #counted(): number {
    const sinceMs = this.#nowMs() - this.#options.stalledMs
    let counted = 0
    for (const slot of this.#active) if (!slot.parked && slot.progressAtMs > sinceMs) counted++
    return counted
  }

  #count(child: object, by: number): void {
    const count = (this.#perChild.get(child) ?? 0) + by
    if (count > 0) this.#perChild.set(child, count)
    else this.#perChild.delete(child)
  }
}
