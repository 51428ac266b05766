/** Upgrades in place and rollbacks of the containers of this host. One at a time per container; what an agent before this one left half done is finished. */

import type { RollbackRequest, UpgradePlan, UpgradeReply, UpgradeRequest } from '../../src/api/upgrade-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import type { EngineInner } from '../containers/containers.ts'
import type { ImageStore, ResolvedImage, RootfsStore } from '../containers/dependencies.ts'
import type { Entry } from '../containers/entry.ts'
import type { FaultPoint } from '../containers/launch.ts'
import { type ContainerRecord, generationOf, viewOf } from '../containers/record.ts'
import { ALIVE } from '../containers/states.ts'
import type { RunExtension } from '../rich/extension.ts'
import type { GateParts } from './gate.ts'
import type { Generation, UpgradeJournal } from './journal.ts'
import { Exchange, layersOf } from './swap.ts'
import { shown, stillTrees, walkUpper } from './upper-walk.ts'

export interface UpgradesParts extends GateParts {
  readonly engine: EngineInner
  readonly images: ImageStore
  readonly rootfs: RootfsStore
  readonly clock: Clock
  readonly log: Log
  readonly extension?: RunExtension
  readonly fault?: (point: FaultPoint) => void
}

const DEFAULT_HEALTH_MS = 60_000
const DEFAULT_KEEP_MS = 24 * 3_600_000
const MOST_LISTED = 10_000
/** How often generations are looked for that nobody may roll back to any more. */
const SWEEP_MS = 60_000

/** All methods take an id, a name or the start of an id. Hold it with `await using`: what is under way then is left to the next agent. */
export class Upgrades implements AsyncDisposable {
  readonly #parts: UpgradesParts
  readonly #scope = new Scope()
  readonly #exchange: Exchange
  readonly #resumed = new Map<string, Promise<void>>()

  constructor(parts: UpgradesParts) {
    this.#parts = parts
    this.#exchange = new Exchange({ ...parts, fault: parts.fault ?? (() => {}), signal: this.#scope.signal })
  }

  /** Goes on with what was under way when the last agent ended, and begins to delete what is past its time. */
  start(): void {
    for (const entry of this.#parts.engine.index.all()) if (entry.record.upgrade) this.#resume(entry)
    this.#scope.run((signal) => this.#sweep(signal))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.close()
  }

  /** Resolves when what the last agent left is done or undone. */
  async idle(): Promise<void> {
    await Promise.all(this.#resumed.values())
  }

  /**
   * Exchanges the image. Throws NOT_FOUND for container and image. Throws STATE_INVALID for a container in between states, and while
   * another upgrade of it goes on. Throws what create throws for an image that doesn't fit; then what went wrong with the new container,
   * which is undone by then.
   */
  async upgrade(reference: string, request: UpgradeRequest): Promise<UpgradeReply> {
    const { engine, images, clock } = this.#parts
    const entry = this.#idle(reference, 'upgrading')
    const image = await images.resolve(request.image)
    if (request.dryRun === true) return this.#reply(entry, { plan: await this.#plan(entry, image, request) })
    const { upper = 'unowned', merge = [], healthTimeoutMs = DEFAULT_HEALTH_MS, keepMs = DEFAULT_KEEP_MS } = request
    await engine.locks.hold(entry.id, async () => {
      const { record } = this.#idle(entry.id, 'upgrading')
      const number = (record.generation ?? 0) + 1
      const to = await this.#generation(record, { name: request.image, ...image }, `${record.id}.${number}`)
      await this.#record(entry, number, {
        kind: 'upgrade',
        to,
        upper,
        merge,
        healthTimeoutMs,
        keepMs,
        startedAt: clock.now(),
      })
    })
    return this.#reply(entry, { done: await this.#exchange.forward(entry) })
  }

  /** Brings the generation before the last upgrade back, its writable layer as it was then. Throws STATE_INVALID when there is none. */
  async rollback(reference: string, request: RollbackRequest): Promise<UpgradeReply> {
    const { engine, clock } = this.#parts
    const { healthTimeoutMs = DEFAULT_HEALTH_MS } = request
    const entry = this.#idle(reference, 'rolling back')
    await engine.locks.hold(entry.id, async () => {
      const { record } = this.#idle(entry.id, 'rolling back')
      const { previous } = record
      if (previous === undefined) {
        throw new DarnerError('STATE_INVALID', `container ${record.name} has no former generation to roll back to`)
      }
      const { imageId: id, imageReference, imageConfig: config, rootfsId } = previous.generation
      const layers = layersOf(previous.generation)
      const image = { name: previous.generation.request.image, id, reference: imageReference, config, layers }
      const to = await this.#generation(record, image, rootfsId)
      const keepMs = Math.max(0, Math.round(previous.until - clock.now()))
      const how = { kind: 'rollback' as const, upper: 'keep' as const, merge: [], healthTimeoutMs, keepMs }
      await this.#record(entry, record.generation ?? 0, { ...how, to, startedAt: clock.now() })
    })
    return this.#reply(entry, { done: await this.#exchange.forward(entry) })
  }

  /** Deletes the former generations whose time is over. */
  async expire(): Promise<void> {
    for (const entry of this.#parts.engine.index.all()) {
      try {
        await this.#expireOne(entry)
      } catch (error) {
        this.#parts.log.error({ container: entry.id, error }, 'a former generation was not deleted')
      }
    }
  }

  /**
   * The user's request over another image, which is shown by the `name` that the user gave. Volumes that the container has by now stay.
   */
  async #generation(
    record: ContainerRecord,
    image: ResolvedImage & { readonly name: string },
    rootfsId: string,
  ): Promise<Generation> {
    const { mounts } = record.request
    const given = { ...(record.given ?? record.request), image: image.name, ...(mounts ? { mounts } : {}) }
    const { request } = await this.#parts.engine.admission.requestFor(given, image)
    return {
      request,
      imageId: image.id,
      imageReference: image.reference,
      imageConfig: image.config,
      layers: [...image.layers],
      rootfsId,
    }
  }

  /** The first write: from now on the container is not to be changed by anybody else. */
  async #record(
    entry: Entry,
    generation: number,
    how: Omit<UpgradeJournal, 'step' | 'from' | 'wasRunning'>,
  ): Promise<void> {
    const { record } = entry
    const wasRunning = record.status === 'running' || record.status === 'restarting'
    const upgrade: UpgradeJournal = { ...how, step: 'prepare', from: generationOf(record), wasRunning }
    const given = record.given ?? record.request // what another image makes of it must not be taken for what was asked
    await this.#parts.engine.life.save(entry, { ...record, given, generation, upgrade }, { sync: true })
  }

  /** Throws STATE_INVALID unless it runs or doesn't, and nothing else is being done to it. */
  #idle(reference: string, what: string): Entry {
    const entry = this.#parts.engine.index.find(reference)
    const { upgrade, status, name } = entry.record
    if (upgrade) {
      throw new DarnerError('STATE_INVALID', `${what} container ${name}: its ${upgrade.kind} is under way`, {
        way: 'wait for its end',
      })
    }
    if (entry.record.userns)
      throw new DarnerError('UNSUPPORTED', `${what} container ${name}: it is in a user namespace`, {
        way: 'make a new container over the other image',
      })
    if (['running', 'restarting', 'created', 'exited'].includes(status)) return entry
    throw new DarnerError('STATE_INVALID', `${what} container ${name}: it is ${status}`, {
      ...(status === 'paused' ? { way: `darner unpause ${name} lets it go on` } : {}),
    })
  }

  async #plan(entry: Entry, image: ResolvedImage, request: UpgradeRequest): Promise<UpgradePlan> {
    const { upper: rule = 'unowned', merge = [] } = request
    const { record } = entry
    const from = generationOf(record)
    const to = { ...from, imageId: image.id, imageReference: image.reference, layers: [...image.layers] }
    const plan = {
      upper: [] as UpgradePlan['upper'],
      truncated: false,
      counts: {} as Record<string, number>,
      keptBytes: 0,
    }
    if (rule !== 'fresh') {
      const look = () =>
        this.#exchange.withTrees(entry, { from, to }, async (found) => {
          using trees = stillTrees(found)
          const rules = await this.#exchange.rulesOf(entry, from, { upper: rule, merge })
          for await (const { path, verdict, facts } of walkUpper(trees, rules)) {
            const kind = facts.isDirectory() ? 'directory' : facts.isFile() ? 'file' : 'other'
            const bytes = kind === 'file' ? Number(facts.size) : 0
            plan.counts[verdict] = (plan.counts[verdict] ?? 0) + 1
            if (verdict === 'keep' || verdict === 'win') plan.keptBytes += bytes
            if (plan.upper.length < MOST_LISTED) plan.upper.push({ path: shown(path), verdict, kind, bytes })
            else plan.truncated = true
          }
        })
      // nobody starts it meanwhile; one that runs goes its way
      if (ALIVE.includes(record.status)) await look()
      else await this.#parts.engine.locks.hold(entry.id, look)
    }
    return {
      from: { image: from.imageReference, imageId: from.imageId },
      to: { image: to.imageReference, imageId: to.imageId },
      mounts: (record.request.mounts ?? []).map((one) => one.target),
      ...plan,
    }
  }

  #reply(entry: Entry, what: Pick<UpgradeReply, 'plan' | 'done'>): UpgradeReply {
    const { previous } = viewOf(entry.record, entry.bundle.log)
    return { id: entry.id, name: entry.record.name, ...what, ...(previous ? { previous } : {}) }
  }

  #resume(entry: Entry): void {
    const { log } = this.#parts
    const over = Promise.withResolvers<void>()
    this.#resumed.set(entry.id, over.promise)
    this.#scope.run(async () => {
      const { kind, step } = entry.record.upgrade ?? {}
      try {
        await this.#exchange.resume(entry)
        log.info({ container: entry.id, kind, step }, 'an upgrade was finished that another agent began')
      } catch (error) {
        if (this.#scope.signal.aborted) return
        log.warn({ container: entry.id, kind, step, error }, 'an upgrade was undone that another agent began')
      } finally {
        over.resolve()
        this.#resumed.delete(entry.id)
      }
    })
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.expire()
      await this.#parts.clock.sleep(SWEEP_MS, { signal })
    }
  }

  /** The record forgets it first. */
  async #expireOne(entry: Entry): Promise<void> {
    const { engine, clock } = this.#parts
    const due = () => {
      const { previous, upgrade } = entry.record
      return previous && !upgrade && previous.until <= clock.now() ? previous : undefined
    }
    if (!due()) return
    await engine.locks.hold(entry.id, async () => {
      const previous = due()
      if (!previous || engine.index.get(entry.id) !== entry) return
      const { previous: _gone, ...record } = entry.record
      await engine.life.save(entry, record, { sync: true, reserved: true })
      await this.#exchange.removeGeneration(entry, previous.generation)
    })
  }
}
