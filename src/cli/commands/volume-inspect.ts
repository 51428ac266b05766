/** `darner volume inspect`: all that is known about volumes, as a JSON list or by a template. */
import type { Action } from '../context.ts'
import { inspectAll } from './inspect.ts'

export const action: Action = (args, options, context) => inspectAll(args, ['volume'], options, context)
