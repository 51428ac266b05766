/** Health checks: runs the check in each running container that has one, and keeps what it said. */

import type { HealthCheck } from '../../src/api/container-options.ts'
import type { Clock } from '../../src/core/clock.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import { anySignal } from '../../src/core/signals.ts'
import { readImageHealth } from '../spec/image-config.ts'
import type { Containers } from './containers.ts'
import type { Entry, RunObserver } from './entry.ts'
import type { Execs } from './execs.ts'

export const HEALTH_DEFAULTS = { intervalMs: 30_000, timeoutMs: 30_000, startPeriodMs: 0, retries: 3 } as const

/** One check, as docker's inspect shows it. */
export interface HealthResult {
  readonly startedAt: number
  readonly endedAt: number
  /** 0 healthy, 1 unhealthy; -1 when it could not be run or took too long. */
  readonly exitCode: number
  readonly output: string
}

export type Health = { readonly status: 'starting' | 'healthy' | 'unhealthy'; readonly failingStreak: number }

/** What an image may ask for; a container's own flags may ask for more. Each check is a process. */
export const LEAST_IMAGE_INTERVAL_MS = 1000
const MOST_RESULTS = 5
const MOST_OUTPUT_BYTES = 4096

/** The state after one more check. Pure: failures within the start period don't count until the first success. */
export function nextHealth(before: Health, ok: boolean, facts: { inStartPeriod: boolean; retries: number }): Health {
  if (ok) return { status: 'healthy', failingStreak: 0 }
  if (before.status === 'starting' && facts.inStartPeriod) return before
  const failingStreak = before.failingStreak + 1
  return { status: failingStreak >= facts.retries ? 'unhealthy' : before.status, failingStreak }
}

/** How long until the next check of one that runs for `ageMs`: more often while it is starting, where that was asked for. Pure. */
export function nextPauseMs({ status }: Health, ageMs: number, check: HealthCheck): number {
  const { intervalMs, startPeriodMs, startIntervalMs } = filled(check)
  return status === 'starting' && ageMs < startPeriodMs ? startIntervalMs : intervalMs
}

export class HealthMonitor implements RunObserver, AsyncDisposable {
  readonly #parts: { readonly containers: Containers; readonly execs: Execs; readonly clock: Clock; readonly log: Log }
  readonly #scope = new Scope()
  readonly #watched = new Map<string, AbortController>()
  readonly #results = new Map<string, HealthResult[]>()

  constructor(parts: { containers: Containers; execs: Execs; clock: Clock; log: Log }) {
    this.#parts = parts
  }

  started(entry: Entry): void {
    const check = checkOf(entry)
    if (check === undefined) return
    this.#watched.get(entry.id)?.abort()
    const over = new AbortController()
    this.#watched.set(entry.id, over)
    this.#scope.run(async (ending) => {
      try {
        await this.#watch(entry, check, anySignal([over.signal, ending]))
      } catch (error) {
        if (!over.signal.aborted && !ending.aborted)
          this.#parts.log.warn({ container: entry.id, error }, 'health checks of a container ended')
      }
    })
  }

  ended(entry: Entry): void {
    this.#watched.get(entry.id)?.abort()
    this.#watched.delete(entry.id)
  }

  removed({ id }: Entry): void {
    this.#results.delete(id)
  }

  /** The last checks, oldest first. */
  results(id: string): readonly HealthResult[] {
    return this.#results.get(id) ?? []
  }

  /** Runs the check of a container once, now. One that has none is healthy. */
  async probe(entry: Entry, { signal }: { signal: AbortSignal }): Promise<HealthResult> {
    const check = checkOf(entry)
    if (check) return this.#check(entry, check, signal)
    const now = this.#parts.clock.now()
    return { startedAt: now, endedAt: now, exitCode: 0, output: '' }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.close()
  }

  async #watch(entry: Entry, check: HealthCheck, signal: AbortSignal): Promise<void> {
    const { clock, containers } = this.#parts
    const { startPeriodMs, retries } = filled(check)
    const age = () => clock.now() - (entry.record.startedAt ?? 0)
    this.#results.set(entry.id, [])
    let health: Health = entry.record.health ?? { status: 'starting', failingStreak: 0 }
    await containers.setHealth(entry, health)
    for (;;) {
      await clock.sleep(nextPauseMs(health, age(), check), { signal })
      if (entry.record.status !== 'running') continue
      const result = await this.#check(entry, check, signal)
      signal.throwIfAborted()
      const kept = this.#results.get(entry.id) ?? []
      this.#results.set(entry.id, [...kept, result].slice(-MOST_RESULTS))
      health = nextHealth(health, result.exitCode === 0, { inStartPeriod: age() < startPeriodMs, retries })
      await containers.setHealth(entry, health)
    }
  }

  async #check(entry: Entry, check: HealthCheck, signal: AbortSignal): Promise<HealthResult> {
    const { clock, execs } = this.#parts
    const startedAt = clock.now()
    const { timeoutMs } = filled(check)
    try {
      const execId = execs.create(entry.id, { command: commandOf(check) })
      await using session = await execs.start(execId, { signal })
      const late = new AbortController()
      const output = collect(session.output())
      const timer = clock.sleep(timeoutMs, { signal: anySignal([signal, late.signal]) })
      try {
        const end = await Promise.race([session.result, timer.then(() => undefined)])
        if (end === undefined) {
          execs.killProcess(execId)
          const output = `Health check exceeded timeout (${timeoutMs} ms)`
          return { startedAt, endedAt: clock.now(), exitCode: -1, output }
        }
        return { startedAt, endedAt: clock.now(), exitCode: end.exitCode, output: await output }
      } finally {
        timer.catch(() => {}) // the abort below
        late.abort()
      }
    } catch (error) {
      signal.throwIfAborted()
      const output = error instanceof Error ? error.message : String(error)
      return { startedAt, endedAt: clock.now(), exitCode: -1, output }
    }
  }
}

/** The check that the request names, else the image's; undefined when there is none or it is switched off. */
export function checkOf(entry: Entry): HealthCheck | undefined {
  const { request, imageConfig } = entry.record
  const asked = request.health
  const image = slowed(readImageHealth(imageConfig))
  const test = asked?.test[0] === 'INHERIT' ? image?.test : (asked?.test ?? image?.test)
  if (test === undefined || test[0] === 'NONE') return undefined
  const { test: _asked, ...over } = asked ?? { test: [] }
  return { ...image, ...over, test: [...test] }
}

/** An image's check, no more often than {@link LEAST_IMAGE_INTERVAL_MS}. */
function slowed(check: HealthCheck | undefined): HealthCheck | undefined {
  if (check === undefined) return undefined
  const { intervalMs, startIntervalMs, ...rest } = check
  return {
    ...rest,
    ...(intervalMs === undefined ? {} : { intervalMs: Math.max(intervalMs, LEAST_IMAGE_INTERVAL_MS) }),
    ...(startIntervalMs === undefined ? {} : { startIntervalMs: Math.max(startIntervalMs, LEAST_IMAGE_INTERVAL_MS) }),
  }
}

function filled(check: HealthCheck): Required<Omit<HealthCheck, 'test'>> {
  const { intervalMs, timeoutMs, startPeriodMs, startIntervalMs, retries } = check
  return {
    intervalMs: intervalMs || HEALTH_DEFAULTS.intervalMs,
    timeoutMs: timeoutMs || HEALTH_DEFAULTS.timeoutMs,
    startPeriodMs: startPeriodMs ?? HEALTH_DEFAULTS.startPeriodMs,
    startIntervalMs: startIntervalMs || intervalMs || HEALTH_DEFAULTS.intervalMs,
    retries: retries || HEALTH_DEFAULTS.retries,
  }
}

function commandOf({ test: [kind, ...rest] }: HealthCheck): string[] {
  return kind === 'CMD-SHELL' ? ['/bin/sh', '-c', rest.join(' ')] : [...rest]
}

async function collect(output: AsyncIterable<{ readonly bytes: Uint8Array }>): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of output) {
    if (bytes < MOST_OUTPUT_BYTES) chunks.push(chunk.bytes)
    bytes += chunk.bytes.byteLength
  }
  return Buffer.concat(chunks).subarray(0, MOST_OUTPUT_BYTES).toString()
}
