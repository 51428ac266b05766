/** `darner network ls`: the networks of this host. */
import type { Action } from '../context.ts'
import { action as list } from './network.ts'

export const action: Action = (args, options, context) => list(args, options, context)
