/**
 * Metrics of one process: a registry of its own (no module-level state), handed to the rooms, which declare theirs on it.
 * Names begin with `darner_` and end in their unit: `_bytes`, `_seconds`, `_total`.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client'

export interface Metrics {
  /** Counts up: `counter('darner_origin_read_bytes_total', 'bytes read at origins', ['origin'])`. */
  counter<L extends string = never>(name: string, help: string, labels?: readonly L[]): Counter<L>
  /** A value that goes up and down. `read`, where given, is asked at each scrape. */
  gauge<L extends string = never>(
    name: string,
    help: string,
    labels?: readonly L[],
    read?: (gauge: Gauge<L>) => void | Promise<void>,
  ): Gauge<L>
  /** How values are spread, in the unit that the name ends in. */
  histogram<L extends string = never>(
    name: string,
    help: string,
    buckets: readonly number[],
    labels?: readonly L[],
  ): Histogram<L>
  /** The text exposition, and its content type. */
  expose(): Promise<{ contentType: string; text: string }>
}

const NAME = /^darner_[a-z0-9_]+(_bytes|_seconds|_total|_ratio|_count|_info)$/

/** How often the share of time that the event loop works is sampled. The library's own 100 ms wake an idle daemon too often. */
const LOOP_SAMPLE_MS = 1_000

/** Opens a registry. `process` adds Node's own figures (CPU, memory, event loop). Throws TypeError for a name without its unit. */
export function openMetrics(options: { process: boolean }): Metrics {
  const registry = new Registry()
  if (options.process) collectDefaultMetrics({ register: registry, eventLoopUtilizationTimeout: LOOP_SAMPLE_MS })
  const named = (name: string) => {
    if (!NAME.test(name)) throw new TypeError(`metric ${name}: expected darner_… ending in its unit`)
    return name
  }
  const registers = [registry]
  return {
    counter: (name, help, labels = []) => new Counter({ name: named(name), help, labelNames: [...labels], registers }),
    gauge: (name, help, labels = [], read) => {
      const gauge: Gauge<(typeof labels)[number]> = new Gauge({
        name: named(name),
        help,
        labelNames: [...labels],
        registers,
        ...(read && { collect: () => read(gauge) }),
      })
      return gauge
    },
    histogram: (name, help, buckets, labels = []) =>
      new Histogram({ name: named(name), help, buckets: [...buckets], labelNames: [...labels], registers }),
    expose: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  }
}
