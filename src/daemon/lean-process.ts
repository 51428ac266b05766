/**
 * A daemon's own process settings. V8 takes the size of its young generation, and glibc how it keeps freed memory, only at the start of a
 * process. With their defaults an agent that moves buffers holds some 130 MiB more than it needs. So a daemon replaces itself once, in
 * place: same pid, same descriptors.
 */

/** Mebibytes of one half of the young generation. Small, so that buffers which nobody holds are freed soon. */
const SEMI_SPACE_MIB = 4
/**
 * Blocks from this length on go back to the system when they are freed, and the heap's end once so much of it is free. glibc raises
 * both on its own to what was freed last, and then keeps 30 MiB after each download (bench soak).
 */
const MALLOC = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: String(128 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(256 * 1024),
}
/**
 * How far an agent's heap may grow beyond what lives before it is collected. Hundreds of answers at once leave most of what they
 * make in the old generation, which V8 lets grow to four times what lives there.
 */
const HEAP_GROWTH_PERCENT = 40
const MARK = 'DARNER_STAGE_LEAN'

/** Replaces the process when it runs with Node's defaults; returns when there is nothing to replace. */
export function becomeLean(): void {
  const { env, execArgv, argv, execPath } = process
  if (env[MARK] === '1' || typeof process.execve !== 'function') return
  const growth = argv[2] === 'agent' ? [`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`] : []
  const flags = [...execArgv, `--max-semi-space-size=${SEMI_SPACE_MIB}`, ...growth]
  const lean = { ...MALLOC, ...env, [MARK]: '1' }
  process.execve(execPath, [execPath, ...flags, ...argv.slice(1)], lean)
}
