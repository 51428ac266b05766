/** The supernode's metrics, read from its parts at each scrape. */
import type { Metrics } from '../../src/core/metrics.ts'
import type { Supernode } from '../supernode.ts'

export function declareMetrics(metrics: Metrics, supernode: Supernode): void {
  metrics.gauge('darner_supernode_hosts_count', 'agents in the swarm now', [], (gauge) =>
    gauge.set(supernode.control.hosts.size),
  )
  metrics.gauge('darner_supernode_tasks_count', 'blobs that the seed holds or reads', [], (gauge) =>
    gauge.set([...supernode.seed.tasks()].length),
  )
  metrics.gauge('darner_supernode_origin_read_bytes', 'bytes read at origins since the start', [], (gauge) =>
    gauge.set(supernode.traffic.origin),
  )
  metrics.gauge('darner_supernode_from_hosts_bytes', 'bytes that hosts gave to the seed since the start', [], (gauge) =>
    gauge.set(supernode.traffic.fromHosts),
  )
  metrics.gauge('darner_supernode_seeded_bytes', 'bytes that left the seed since the start', [], (gauge) =>
    gauge.set(supernode.traffic.seeded),
  )
}
