/** The end of a process that has done its work. */

/** How long what nobody waits for any more may hold the process. */
const LINGER_MS = 20

/**
 * Ends the process with `code`: by itself, as soon as nothing is left open, else after {@link LINGER_MS}. `process.exit()` alone joins V8's
 * compiler threads while no collection can run. A thread that wants memory just then waits for a collection, and the process never ends
 * (https://github.com/nodejs/node/issues/54918; on busy hosts one command in some thousands). A process that ends by itself stops those
 * threads first.
 */
export function endProcess(code: number): void {
  process.exitCode = code
  setTimeout(() => process.exit(code), LINGER_MS).unref()
}
