/** How bytes came to where they are, and which passes open them. */
import { LRUCache } from 'lru-cache'
import type { Place } from '../core/task/place.ts'
import type { TaskId } from '../core/task/task.ts'
import { upTo } from '../core/up-to.ts'

/** Through which place bytes came, and whether that gave them without a credential. */
export interface Came {
  readonly place: Place
  readonly anybody: boolean
}

/**
 * What a pass opens. `whole`: all of the content, for a right at a place that has served it whole. `through`: only what came through the
 * place of the right, which has proven nothing yet. `open`: only what came through that place without a credential, for askers that could
 * not be checked at the place.
 */
export type Reach = 'whole' | 'through' | 'open'

/** Whether a pass opens what came so; `came` is undefined where that isn't known. */
export function opens(pass: { readonly place: Place; readonly reach: Reach }, came: Came | undefined): boolean {
  if (pass.reach === 'whole') return true
  return came !== undefined && came.place === pass.place && (pass.reach === 'through' || came.anybody)
}

const MAX_TASKS = 16_384

/** How the content on this host came here, in this run; of what an earlier run left that isn't known. */
export class CameBook {
  readonly #tasks = new LRUCache<TaskId, { readonly came: Came | undefined }>(upTo(MAX_TASKS))

  of(task: TaskId): Came | undefined {
    return this.#tasks.get(task)?.came
  }

  /** Whether anything of a task came in this run. */
  has(task: TaskId): boolean {
    return this.#tasks.has(task)
  }

  /** More of it comes; `empty` where nothing of it can be read yet. What came in two ways opens to neither alone. */
  note(task: TaskId, came: Came, { empty }: { empty: boolean }): void {
    const before = this.of(task)
    const now = empty ? came : before?.place === came.place ? merged(before, came) : undefined
    this.#tasks.set(task, { came: now })
  }
}

function merged(one: Came, other: Came): Came {
  return { place: one.place, anybody: one.anybody && other.anybody }
}
