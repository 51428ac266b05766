/** `darner image prune`: deletes images that have no name, with --all also those that no container uses. */
import type { Action } from '../context.ts'
import { prune } from '../prune.ts'

export const action: Action = (_args, options, context) => prune(['image'], options, context)
