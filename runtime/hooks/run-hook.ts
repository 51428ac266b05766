/** Runs one hook to its end: on the host as a process of its own session, or inside through the OCI runtime. */
import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { HookRequest, HookResult } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { systemCode } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { RunFacts } from '../rich/extension.ts'
import { writeWhole } from '../shim/bundle.ts'
import { PROGRAM_ENV } from '../shim/program.ts'

const DEFAULT_TIMEOUT_MS = 30_000
const MOST_OUTPUT_BYTES = 65_536
const TIMED_OUT = 124
const NOT_STARTED = 127

/** `once`: a file that the hook's process makes right before the command begins; when it is there already, nothing is run. */
export interface HookRun {
  readonly hook: HookRequest
  readonly env: Readonly<Record<string, string>>
  readonly facts: RunFacts
  /** Process JSON for hooks inside (runtime-spec, config.md, "Process"), but for its arguments and environment. */
  readonly process?: { readonly env: readonly string[] }
  readonly once?: string
}

/** The exit code that a hook's process gives when its `once` file was there: it ran under a former agent. */
const RAN_BEFORE = 113
/** Noclobber makes the file in one step (O_EXCL); the command takes the place of the shell, its words never pass through it. */
const ONCE_SCRIPT = `set -C; { : > "$0"; } 2>/dev/null || exit ${RAN_BEFORE}; exec "$@"`

/** Undefined when it ran before. Never throws for what the hook does; throws the signal's reason on abort. */
export async function runHook(
  run: HookRun,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<HookResult | undefined> {
  const { hook } = run
  const startedAt = clock.now()
  const begun = clock.monotonicMs()
  const processFile = join(run.facts.bundle.path, `hook-${process.pid}-${startedAt}-${Math.trunc(begun * 1000)}.json`)
  const argv = hook.where === 'inside' ? await insideArguments(run, processFile) : hostArguments(run)
  try {
    const env = hook.where === 'inside' ? PROGRAM_ENV : { ...PROGRAM_ENV, ...run.env }
    const ended = await capture(argv, env, hook.timeoutMs ?? DEFAULT_TIMEOUT_MS, { clock, signal })
    if (run.once !== undefined && ended.exitCode === RAN_BEFORE) return undefined
    const { at, where, command } = hook
    return { at, where, command, ...ended, startedAt, ms: Math.round(clock.monotonicMs() - begun) }
  } finally {
    await rm(processFile, { force: true })
  }
}

function hostArguments({ hook, once }: HookRun): string[] {
  return once === undefined ? [...hook.command] : ['/bin/sh', '-c', ONCE_SCRIPT, once, ...hook.command]
}

async function insideArguments(run: HookRun, processFile: string): Promise<string[]> {
  const { runtime, id } = run.facts
  const env = [...(run.process?.env ?? []), ...Object.entries(run.env).map(([name, value]) => `${name}=${value}`)]
  await writeWhole(processFile, JSON.stringify({ ...run.process, args: run.hook.command, env }))
  return [runtime.program, ...runtime.globalArguments, 'exec', '--process', processFile, id]
}

async function capture(
  [program = '', ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
  timeoutMs: number,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<{ exitCode: number; output: string }> {
  signal.throwIfAborted()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env, detached: true })
  const chunks: Buffer[] = []
  let bytes = 0
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      if (bytes < MOST_OUTPUT_BYTES) chunks.push(chunk.subarray(0, MOST_OUTPUT_BYTES - bytes))
      bytes += chunk.length
    })
  }
  const ended = new Promise<number>((resolve) => {
    child.once('error', (error) => {
      chunks.push(Buffer.from(`${systemCode(error) ?? error.message}\n`))
      resolve(NOT_STARTED)
    })
    // a process that the hook left behind may hold the pipes: its end is not the hook's
    child.once('exit', (code, name) => setImmediate(() => resolve(code ?? 128 + signalCode(name))))
  })
  const timer = new AbortController()
  const both = anySignal([signal, timer.signal])
  try {
    const late = clock.sleep(timeoutMs, { signal: both }).then(() => TIMED_OUT)
    late.catch(() => {}) // the race below gets the failure
    const exitCode = await Promise.race([ended, late])
    return { exitCode, output: Buffer.concat(chunks).toString() }
  } finally {
    timer.abort()
    if (child.exitCode === null && child.signalCode === null) killGroup(child.pid)
    child.stdout.destroy()
    child.stderr.destroy()
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (systemCode(error) !== 'ESRCH') throw error
  }
}

function signalCode(name: string | null): number {
  return name === 'SIGKILL' ? 9 : name === 'SIGTERM' ? 15 : 1
}
