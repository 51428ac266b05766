/**
 * Work that somebody outside caused. An uncaught failure in it ends that one's connection, by `end`, and not the process. A mistake in one
 * handler must not give everybody the power to stop a daemon.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { EventEmitter } from 'node:events'

/** Ends the connection of the one on whose behalf the work was done. */
export type End = (error: unknown) => void

const behalf = new AsyncLocalStorage<End>()

/** Does `work`, and all that follows from it, on behalf of the one whom `end` ends. */
export function onBehalf<T>(end: End, work: () => T): T {
  return behalf.run(end, work)
}

/** Has all that the events of `source` set off done on behalf of the one whom `end` ends. */
export function eventsOnBehalf(source: EventEmitter, end: End): void {
  const emit = source.emit.bind(source)
  source.emit = (...event: Parameters<typeof emit>) => onBehalf(end, () => emit(...event))
}

/**
 * Ends the outside cause of a failure that nobody caught; false where there is none. For the process's own events `uncaughtException` and
 * `unhandledRejection`, which come in the context of what failed.
 */
export function endCause(error: unknown): boolean {
  const end = behalf.getStore()
  end?.(error)
  return end !== undefined
}
