/** `darner container prune`: deletes containers that don't run. */
import type { Action } from '../context.ts'
import { prune } from '../prune.ts'

export const action: Action = (_args, options, context) => prune(['container'], options, context)
