/** What an image says about how to run it (image-spec, config.md, "Properties"), read from bytes that anybody may have written. */

import type { HealthCheck } from '../../src/api/container-options.ts'
import { DarnerError } from '../../src/core/errors.ts'

/** The `config` object of an image configuration, with nulls and absences made empty. */
export interface ImageRunConfig {
  readonly user: string
  readonly env: readonly string[]
  readonly entrypoint: readonly string[]
  readonly command: readonly string[]
  readonly workdir: string
  readonly labels: Readonly<Record<string, string>>
  /** Name or number as the image gives it; empty when it doesn't. */
  readonly stopSignal: string
  readonly exposedPorts: readonly string[]
  readonly volumes: readonly string[]
}

const MOST_ITEMS = 10_000

/**
 * Reads an image configuration. Null and absent fields are empty; a field of a wrong type throws MANIFEST_INVALID naming it.
 * `which` names the image in messages.
 */
export function readImageConfig(json: unknown, which: string): ImageRunConfig {
  // lists read those of hundreds of containers at once
  const known = typeof json === 'object' && json !== null ? read.get(json) : undefined
  if (known !== undefined) return known
  const config = checkedConfig(json, which)
  if (typeof json === 'object' && json !== null) read.set(json, config)
  return config
}

const read = new WeakMap<object, ImageRunConfig>()

function checkedConfig(json: unknown, which: string): ImageRunConfig {
  const whole = asRecord(json, which, 'configuration')
  const config = whole.config === undefined || whole.config === null ? {} : asRecord(whole.config, which, 'config')
  return {
    user: text(config, 'User', which),
    env: texts(config, 'Env', which),
    entrypoint: texts(config, 'Entrypoint', which),
    command: texts(config, 'Cmd', which),
    workdir: text(config, 'WorkingDir', which),
    labels: labels(config, which),
    stopSignal: text(config, 'StopSignal', which),
    exposedPorts: keys(config, 'ExposedPorts', which),
    volumes: keys(config, 'Volumes', which),
  }
}

function invalid(which: string, field: string, wanted: string): DarnerError {
  return new DarnerError('MANIFEST_INVALID', `image ${which}: config field ${field} is not ${wanted}`)
}

function asRecord(value: unknown, which: string, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(which, field, 'an object')
  return value as Record<string, unknown>
}

function text(config: Record<string, unknown>, field: string, which: string): string {
  const value = config[field]
  if (value === undefined || value === null) return ''
  if (typeof value !== 'string' || value.includes('\0')) throw invalid(which, field, 'a text without NUL')
  return value
}

function texts(config: Record<string, unknown>, field: string, which: string): string[] {
  const value = config[field]
  if (value === undefined || value === null) return []
  if (!Array.isArray(value) || value.length > MOST_ITEMS) throw invalid(which, field, `a list of at most ${MOST_ITEMS}`)
  return value.map((item: unknown) => {
    if (typeof item !== 'string' || item.includes('\0')) throw invalid(which, field, 'a list of texts without NUL')
    return item
  })
}

function keys(config: Record<string, unknown>, field: string, which: string): string[] {
  const value = config[field]
  if (value === undefined || value === null) return []
  const names = Object.keys(asRecord(value, which, field))
  if (names.length > MOST_ITEMS) throw invalid(which, field, `an object of at most ${MOST_ITEMS}`)
  return names
}

function labels(config: Record<string, unknown>, which: string): Record<string, string> {
  const value = config.Labels
  if (value === undefined || value === null) return {}
  const entries = Object.entries(asRecord(value, which, 'Labels')).filter(([, item]) => item !== null)
  if (entries.length > MOST_ITEMS) throw invalid(which, 'Labels', `an object of at most ${MOST_ITEMS}`)
  for (const [, item] of entries) if (typeof item !== 'string') throw invalid(which, 'Labels', 'an object of texts')
  return Object.fromEntries(entries) as Record<string, string>
}

/** The image's health check, with durations in milliseconds (docker's extension of the config: nanoseconds there); undefined for none. */
export function readImageHealth(json: unknown): HealthCheck | undefined {
  const found = (json as { config?: { Healthcheck?: unknown } } | undefined)?.config?.Healthcheck
  if (typeof found !== 'object' || found === null) return undefined
  const { Test, Interval, Timeout, StartPeriod, StartInterval, Retries } = found as Record<string, unknown>
  if (!Array.isArray(Test) || Test.length === 0 || !Test.every((one) => typeof one === 'string')) return undefined
  const ms = (value: unknown) => (typeof value === 'number' && value > 0 ? Math.max(1, value / 1e6) : undefined)
  const [intervalMs, timeoutMs, startPeriodMs] = [ms(Interval), ms(Timeout), ms(StartPeriod)]
  const startIntervalMs = ms(StartInterval)
  return {
    test: Test as string[],
    ...(intervalMs === undefined ? {} : { intervalMs }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(startPeriodMs === undefined ? {} : { startPeriodMs }),
    ...(startIntervalMs === undefined ? {} : { startIntervalMs }),
    ...(typeof Retries === 'number' && Retries > 0 ? { retries: Retries } : {}),
  }
}
