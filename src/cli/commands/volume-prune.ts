/** `darner volume prune`: deletes volumes that no container has. */
import type { Action } from '../context.ts'
import { prune } from '../prune.ts'

export const action: Action = (_args, options, context) => prune(['volume'], options, context)
