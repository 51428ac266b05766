/** `/containers/ID/stats`: once, or every second while the client reads. */

import { availableParallelism, totalmem } from 'node:os'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Usage } from '../containers/usage.ts'
import { Id, Query } from './containers.ts'
import { type DockerApp, type DockerParts, whileThere } from './context.ts'
import { yes } from './filters.ts'
import { NO_TIME } from './view.ts'

const PERIOD_MS = 1000

export function statsRoute(app: DockerApp, parts: DockerParts): void {
  const { containers } = parts.runtime
  app.get(
    '/containers/:id/stats',
    { schema: { params: Id, querystring: Query('stream', 'one-shot') } },
    async (request, reply) => {
      const { id } = containers.entry(request.params.id)
      const streams = request.query.stream === undefined || yes(request.query.stream)
      const signal = whileThere(reply.raw, parts.signal)
      const lines = async function* () {
        let before = yes(request.query['one-shot']) ? undefined : await containers.usage(id)
        if (!streams && before !== undefined) await sleep(PERIOD_MS, undefined, { signal })
        for (;;) {
          const now = await containers.usage(id)
          const { name } = containers.entry(id)
          const disk = await parts.runtime.diskUse(id)
          yield `${JSON.stringify({ ...statsView(id, name, now, before), disk_quota: disk })}\n`
          if (!streams || now === undefined) return
          before = now
          await sleep(PERIOD_MS, undefined, { signal })
        }
      }
      const told = Readable.from(lines())
      told.on('error', () => {}) // the client left, or the container was removed: the answer ends
      return reply.type('application/json').send(told)
    },
  )
}

/** The shape that docker's clients compute percentages from. Zeros for a container that doesn't run. */
export function statsView(
  id: string,
  name: string,
  now: Usage | undefined,
  before: Usage | undefined,
): Record<string, unknown> {
  return {
    read: now === undefined ? NO_TIME : new Date(now.readAt).toISOString(),
    preread: before === undefined ? NO_TIME : new Date(before.readAt).toISOString(),
    name: `/${name}`,
    id,
    num_procs: 0,
    storage_stats: {},
    pids_stats:
      now === undefined ? {} : { current: now.pids, ...(now.pidsLimit === undefined ? {} : { limit: now.pidsLimit }) },
    blkio_stats: {
      io_service_bytes_recursive:
        now === undefined
          ? null
          : [
              { major: 0, minor: 0, op: 'read', value: now.readBytes },
              { major: 0, minor: 0, op: 'write', value: now.writtenBytes },
            ],
    },
    cpu_stats: cpu(now),
    precpu_stats: cpu(before),
    memory_stats:
      now === undefined
        ? {}
        : {
            usage: now.memoryBytes,
            ...(now.memoryPeakBytes === undefined ? {} : { max_usage: now.memoryPeakBytes }),
            limit: Number.isFinite(now.memoryLimitBytes) ? now.memoryLimitBytes : totalmem(),
            // clients take these off; the first is read on v1, the second on v2
            stats: { total_inactive_file: now.inactiveFileBytes, inactive_file: now.inactiveFileBytes },
          },
    ...(now === undefined ? {} : { networks: networks(now) }),
  }
}

function cpu(usage: Usage | undefined): Record<string, unknown> {
  if (usage === undefined)
    return {
      cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
      throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
    }
  return {
    cpu_usage: { total_usage: usage.cpuNs, usage_in_kernelmode: 0, usage_in_usermode: 0 },
    system_cpu_usage: usage.systemNs,
    online_cpus: availableParallelism(),
    throttling_data: {
      periods: usage.throttled.periods,
      throttled_periods: usage.throttled.throttledPeriods,
      throttled_time: usage.throttled.ns,
    },
  }
}

function networks(usage: Usage): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(usage.networks).map(([name, one]) => [
      name,
      {
        rx_bytes: one.rxBytes,
        rx_packets: one.rxPackets,
        rx_errors: one.rxErrors,
        rx_dropped: 0,
        tx_bytes: one.txBytes,
        tx_packets: one.txPackets,
        tx_errors: one.txErrors,
        tx_dropped: 0,
      },
    ]),
  )
}
