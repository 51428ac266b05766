/** Changes of an existing container: its name, its limits, its last reported state. Each under its lock, recorded first. */
import { join } from 'node:path'
import type { Resources, RestartPolicy } from '../../src/api/container-options.ts'
import type { CoreDump, CreateRequest } from '../../src/api/containers-api.ts'
import type { DiskQuota } from '../../src/api/rich-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { RunExtension } from '../rich/extension.ts'
import { writeWhole } from '../shim/bundle.ts'
import { resourcesOf } from '../spec/resources.ts'
import type { HostFacts } from '../spec/spec.ts'
import type { ContainerNetworks } from './dependencies.ts'
import type { Entry } from './entry.ts'
import type { ContainerIndex } from './index-of.ts'
import type { Launcher } from './launch.ts'
import type { Lifecycle } from './lifecycle.ts'
import { parseLink } from './links.ts'
import type { Locks } from './locks.ts'
import { type ContainerRecord, rootfsIdOf } from './record.ts'
import { ALIVE } from './states.ts'

const MOST_CORE_DUMPS = 16

export interface ContainerChange {
  readonly resources?: Resources
  readonly restart?: RestartPolicy
  readonly diskQuota?: DiskQuota
}

export interface ChangesParts {
  readonly life: Lifecycle
  readonly launcher: Launcher
  readonly index: ContainerIndex<Entry>
  readonly locks: Locks
  readonly host: HostFacts
  readonly networks?: ContainerNetworks
  readonly extension?: RunExtension
}

export class Changes {
  readonly #parts: ChangesParts

  constructor(parts: ChangesParts) {
    this.#parts = parts
  }

  /** Nothing happens when that run is over. */
  async noteReady(id: string, at: number): Promise<void> {
    const { locks, index, life } = this.#parts
    await locks.hold(id, async () => {
      const entry = index.get(id)
      if (!entry || !ALIVE.includes(entry.record.status)) return
      await life.keep(entry, { ...entry.record, readyAt: at })
    })
  }

  /** Recorded and reported; nothing happens when the container is gone. */
  async noteCoreDump(id: string, dump: CoreDump): Promise<void> {
    const { locks, index, life } = this.#parts
    await locks.hold(id, async () => {
      const entry = index.get(id)
      if (!entry) return
      const coreDumps = [...(entry.record.coreDumps ?? []), dump].slice(-MOST_CORE_DUMPS)
      await life.keep(entry, { ...entry.record, coreDumps })
      const { pid, command, signal, written } = dump
      life.tell(entry, 'core', { pid: String(pid), command, signal: String(signal), written: String(written) })
    })
  }

  /** Throws CONFLICT for a taken name. */
  async rename(entry: Entry, name: string): Promise<void> {
    const { locks, index, life, networks } = this.#parts
    await locks.hold(entry.id, async () => {
      const before = entry.record.name
      if (before === name) return
      index.claim(name, entry.id)
      try {
        await life.save(entry, { ...entry.record, name }, { sync: true })
      } catch (error) {
        index.release(name, entry.id)
        throw error
      }
      index.release(before, entry.id)
      await networks?.renamed(entry.id, name)
      life.tell(entry, 'rename', { oldName: `/${before}` })
    })
  }

  /** From the next start on. Throws NOT_FOUND. */
  async unlink(entry: Entry, alias: string): Promise<void> {
    const { locks, life } = this.#parts
    await locks.hold(entry.id, async () => {
      const { record } = entry
      const less = (request: CreateRequest): CreateRequest => ({
        ...request,
        links: (request.links ?? []).filter((one) => parseLink(one).alias !== alias),
      })
      const request = less(record.request)
      if (request.links?.length === (record.request.links ?? []).length)
        throw new DarnerError('NOT_FOUND', `container ${record.name} has no link ${alias}`)
      const given = record.given === undefined ? {} : { given: less(record.given) }
      await life.save(entry, { ...record, request, ...given }, { sync: true })
    })
  }

  /** Limits and disk quota, of a running container at once, and the restart policy. What isn't named stays. Throws BAD_ARGUMENT, HOST_UNABLE. */
  async update(entry: Entry, change: ContainerChange, { signal }: { signal: AbortSignal }): Promise<void> {
    const { host, locks, life, launcher, extension } = this.#parts
    await locks.hold(entry.id, async () => {
      const { request, given } = entry.record
      const resources = { ...request.resources, ...change.resources }
      const oci = resourcesOf(resources, host.cgroups, host.cpus)
      if (change.restart && change.restart.name !== 'no' && request.autoRemove === true)
        throw new DarnerError(
          'BAD_ARGUMENT',
          'Restart policy cannot be updated because AutoRemove is enabled for the container',
        )
      if (change.resources !== undefined && ALIVE.includes(entry.record.status)) {
        const file = join(entry.bundle.path, 'resources.json')
        await writeWhole(file, JSON.stringify(oci))
        await launcher.runtimeOf(entry.record).update(entry.id, file, { signal })
      }
      const { diskQuota } = change
      if (diskQuota) await extension?.requota(rootfsIdOf(entry.record), diskQuota, { signal })
      const restart = change.restart ?? request.restart
      const changed = { resources, ...(diskQuota ? { diskQuota } : {}), ...(restart === undefined ? {} : { restart }) }
      const next = { request: { ...request, ...changed }, ...(given ? { given: { ...given, ...changed } } : {}) }
      await life.save(entry, { ...entry.record, ...next }, { sync: true })
      life.tell(entry, 'update')
    })
  }

  /** Keeps what a health check said of a container that still runs. */
  async setHealth(entry: Entry, health: NonNullable<ContainerRecord['health']>): Promise<void> {
    const { locks, index, life } = this.#parts
    await locks.hold(entry.id, async () => {
      if (index.get(entry.id) !== entry || entry.record.status !== 'running') return
      const before = entry.record.health?.status
      await life.keep(entry, { ...entry.record, health })
      if (before !== health.status) life.tell(entry, `health_status: ${health.status}`)
    })
  }
}
