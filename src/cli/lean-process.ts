/**
 * A daemon's own process settings. V8 takes the size of its young generation, and glibc the number of its arenas, at the start
 * of a process only; with their defaults an agent that moves buffers holds some 100 MiB more than it needs. So a daemon
 * replaces itself once, in place: same pid, same descriptors.
 */

/** Mebibytes of one half of the young generation. Small, so that buffers which nobody holds are freed soon. */
const SEMI_SPACE_MIB = 4
const MARK = 'DARNER_STAGE_LEAN'

/** Replaces the process when it runs with Node's defaults; returns when there is nothing to replace. */
export function becomeLean(): void {
  const { env, execArgv, argv, execPath } = process
  if (env[MARK] === '1' || typeof process.execve !== 'function') return
  const flags = [...execArgv, `--max-semi-space-size=${SEMI_SPACE_MIB}`]
  const lean = { ...env, [MARK]: '1', MALLOC_ARENA_MAX: env.MALLOC_ARENA_MAX ?? '2' }
  process.execve(execPath, [execPath, ...flags, ...argv.slice(1)], lean)
}
