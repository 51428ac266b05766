/** A file of a tree: what it is, and a path for it that stays below the folder that it is brought to. */
import { DarnerError } from '../../core/errors.ts'
import type { Order } from './order.ts'

/** One file of a tree: what it is, and where it lies below the folder. */
export interface Leaf {
  readonly order: Order
  /** Checked: no step leads up or is empty. */
  readonly steps: readonly string[]
}

/** What a tree has, and what of it can't be brought: that is said, and the rest is brought. */
export interface Listing {
  readonly leaves: readonly Leaf[]
  readonly failed: readonly { readonly path: string; readonly error: unknown }[]
}

export interface TreeLimits {
  readonly files: number
  readonly depth: number
}

/** The steps of a path below a root; undefined for one that would lead elsewhere. */
export function stepsOf(path: string): string[] | undefined {
  const steps = path.split('/')
  const safe = steps.every(
    (one) => one !== '' && one !== '.' && one !== '..' && !/[\0\\]/.test(one) && Buffer.byteLength(one) <= 255,
  )
  return safe && steps.length <= 64 ? steps : undefined
}

/** The refusal of a tree that is larger than was allowed. */
export function tooMany(title: string, files: number): DarnerError {
  return new DarnerError('LIMIT_EXCEEDED', `${title}: more than ${files} files`, { way: 'allow more with --max-files' })
}
