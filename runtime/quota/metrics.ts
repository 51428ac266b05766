/** Disk quotas as metrics: by container and place, what is used and what is the most. */
import { openMetrics } from '../../src/core/metrics.ts'
import type { PlaceUsage } from './uses.ts'

/** One container that runs. */
export interface Measured {
  readonly name: string
  readonly uses: () => Promise<readonly PlaceUsage[]>
}

/** The text exposition of one reading. A container that ends meanwhile is left out. */
export async function quotaMetrics(running: readonly Measured[]): Promise<{ contentType: string; text: string }> {
  const metrics = openMetrics({ process: false })
  const labels = ['container', 'path'] as const
  const gauge = (name: string, help: string) => metrics.gauge(name, help, labels)
  const bytes = gauge('darner_disk_used_bytes', 'bytes used of a disk quota')
  const bytesLimit = gauge('darner_disk_limit_bytes', 'most bytes that a disk quota allows')
  const inodes = gauge('darner_disk_inodes_used_count', 'inodes used of a disk quota')
  const inodesLimit = gauge('darner_disk_inodes_limit_count', 'most inodes that a disk quota allows')
  for (const { name, uses } of running) {
    for (const one of await uses().catch(() => [])) {
      const place = { container: name, path: one.path }
      bytes.set(place, one.bytes.used)
      bytesLimit.set(place, one.bytes.limit)
      if (!one.inodes) continue
      inodes.set(place, one.inodes.used)
      inodesLimit.set(place, one.inodes.limit)
    }
  }
  return metrics.expose()
}
