/** `darner network inspect`: all that is known about networks, as a JSON list or by a template. */
import type { Action } from '../context.ts'
import { inspectAll } from './inspect.ts'

export const action: Action = (args, options, context) => inspectAll(args, ['network'], options, context)
