/** `darner network prune`: removes the networks that no container uses. */
import type { Action } from '../context.ts'
import { prune } from '../prune.ts'

export const action: Action = (_args, options, context) => prune(['network'], options, context)
