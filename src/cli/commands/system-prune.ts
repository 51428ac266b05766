/** `darner system prune`: deletes what no container uses: containers that don't run, networks, images, with --volumes volumes. */
import type { Action } from '../context.ts'
import { prune } from '../prune.ts'

export const action: Action = (_args, options, context) =>
  prune(['container', 'network', 'image', ...(options.volumes === true ? (['volume'] as const) : [])], options, context)
