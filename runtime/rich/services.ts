/**
 * Side services of `dumb-init` containers. Each is a process under a conmon of its own, so it outlives the agent. It starts again with
 * back-off whenever it ends while its container runs.
 */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { ServiceRequest, ServiceView } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError, DarnerError, systemCode } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import type { Carried } from '../cores/carried.ts'
import { logBoundOf, makeLogRoom } from '../quota/log-bound.ts'
import { type Bundle, clearRun, makeBundle, serviceBundle, writeWhole } from '../shim/bundle.ts'
import { conmonAlive, execDetached } from '../shim/conmon.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import type { RunFacts } from './extension.ts'
import { commandOfService } from './known-services.ts'

export interface ServicesOptions {
  readonly conmon: string
  /** Between two looks at a service's exit file; default 250. */
  readonly lookMs?: number
}

export interface ServicesParts {
  readonly clock: Clock
  readonly log: Log
  readonly place: (pid: number) => Promise<void>
  readonly carried?: Carried
}

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 30_000
/** A service that ran as long is started anew without much waiting. */
const STEADY_MS = 10_000
const LOST_EXIT_CODE = 255
const SIGTERM = 15

/** What is kept of a service across agents. */
const Kept = Type.Object({
  restarts: Type.Integer(),
  pauseMs: Type.Number(),
  startedAt: Type.Optional(Type.Number()),
  pid: Type.Optional(Type.Integer()),
  conmonPid: Type.Optional(Type.Integer()),
  lastExitCode: Type.Optional(Type.Integer()),
  lastError: Type.Optional(Type.String()),
})
type Kept = Static<typeof Kept>

interface Service {
  readonly run: RunFacts
  readonly request: ServiceRequest
  readonly bundle: Bundle
  command: readonly string[]
  kept: Kept
  status: ServiceView['status']
  nextTryAt: number | undefined
}

/** The services of one running container. */
interface Group {
  readonly services: readonly Service[]
  readonly scope: Scope
}

/** Holds the watching; disposing ends it, services go on. */
export class Services implements AsyncDisposable {
  readonly #options: ServicesOptions
  readonly #parts: ServicesParts
  readonly #groups = new Map<string, Group>()

  constructor(options: ServicesOptions, parts: ServicesParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Starts the services of a container that runs, or takes them up again. Throws BAD_ARGUMENT for one whose program the image lacks. */
  async start(run: RunFacts, options: { again: boolean }): Promise<void> {
    const requests = run.request.services ?? []
    if (requests.length === 0) return
    const spec = JSON.parse(await readFile(run.bundle.config, 'utf8')) as OciSpec
    const services: Service[] = []
    for (const request of requests) {
      const command = request.command ?? commandOfService(spec.root.path, request.name)
      if (command === undefined) {
        throw new DarnerError(
          'BAD_ARGUMENT',
          `side service ${request.name} of ${run.name}: the image has no program for it`,
        )
      }
      const bundle = serviceBundle(run.bundle, request.name)
      const kept = options.again ? await keptOf(bundle) : { restarts: 0, pauseMs: FIRST_PAUSE_MS }
      if (!options.again) await clearService(bundle)
      await makeBundle(bundle)
      await mkdir(exitsOf(bundle), { recursive: true, mode: 0o700 })
      services.push({ run, request, bundle, command, kept, status: 'waiting', nextTryAt: undefined })
    }
    await this.#end(run.id)
    const scope = new Scope()
    this.#groups.set(run.id, { services, scope })
    for (const service of services) scope.run((signal) => this.#keepUp(service, spec, signal))
  }

  /** No more restarts, and TERM to each: the container is about to stop. */
  async stop(id: string): Promise<void> {
    const group = this.#groups.get(id)
    if (!group) return
    await group.scope.close()
    for (const service of group.services) {
      const { pid, conmonPid } = service.kept
      service.status = 'stopped'
      if (pid === undefined || conmonPid === undefined || !(await conmonAlive(conmonPid, id))) continue
      try {
        process.kill(pid, SIGTERM)
      } catch (error) {
        if (systemCode(error) !== 'ESRCH') throw error
      }
    }
  }

  /** The container is gone, and its services with it. */
  async ended(id: string): Promise<void> {
    await this.#end(id)
  }

  list(): ServiceView[] {
    return [...this.#groups.values()].flatMap(({ services }) => services.map(viewOf))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of [...this.#groups.keys()]) await this.#end(id)
  }

  async #end(id: string): Promise<void> {
    const group = this.#groups.get(id)
    this.#groups.delete(id)
    await group?.scope.close()
  }

  async #keepUp(service: Service, spec: OciSpec, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts
    const adopted = service.kept.conmonPid !== undefined
    if (adopted) await this.#untilEnd(service, signal)
    for (;;) {
      if (service.kept.startedAt !== undefined) await this.#pause(service, signal)
      try {
        await this.#startOne(service, spec, signal)
        await this.#untilEnd(service, signal)
      } catch (error) {
        signal.throwIfAborted()
        const { message } = asDarnerError(error, `starting ${service.request.name}`)
        log.warn({ container: service.run.id, service: service.request.name, error }, 'a side service did not start')
        const { pid: _pid, conmonPid: _conmon, ...rest } = service.kept
        await this.#keep(service, { ...rest, startedAt: clock.now(), lastError: message })
      }
    }
  }

  async #pause(service: Service, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    const { kept } = service
    const steady = clock.now() - (kept.startedAt ?? 0) > STEADY_MS
    const pauseMs = steady ? FIRST_PAUSE_MS : kept.pauseMs
    service.status = 'waiting'
    service.nextTryAt = clock.now() + pauseMs
    await clock.sleep(pauseMs, { signal })
    service.nextTryAt = undefined
    const next = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)
    await this.#keep(service, { ...kept, restarts: kept.restarts + 1, pauseMs: next })
  }

  async #startOne(service: Service, spec: OciSpec, signal: AbortSignal): Promise<void> {
    const { run, bundle, request, command } = service
    const { consoleSize: _size, ...main } = spec.process
    const bounding = main.capabilities.bounding
    const process = {
      ...main,
      terminal: false,
      args: command,
      cwd: '/',
      user: { uid: 0, gid: 0 }, // services are the machine's, not the application's user's
      capabilities: { bounding, effective: bounding, permitted: bounding },
    }
    const exitDir = exitsOf(bundle)
    await rm(join(exitDir, run.id), { force: true })
    await writeWhole(bundle.config, JSON.stringify(process))
    const bound = logBoundOf(run.request)
    if (bound) await makeLogRoom(bundle, bound)
    const carried = await execDetached(
      this.#options.conmon,
      {
        id: run.id,
        execId: `${run.id.slice(0, 40)}-${request.name}`,
        bundle,
        runtime: run.runtime,
        exitDir,
        processFile: bundle.config,
        place: this.#parts.place,
        ...(bound ? { logStepBytes: bound.stepBytes } : {}),
      },
      { signal },
    )
    const { lastError: _error, ...kept } = service.kept
    await this.#keep(service, { ...kept, ...carried, startedAt: this.#parts.clock.now() })
    service.status = 'running'
  }

  async #untilEnd(service: Service, signal: AbortSignal): Promise<void> {
    const { run, bundle } = service
    const { conmonPid = 0, pid } = service.kept
    service.status = 'running'
    if (pid !== undefined) this.#parts.carried?.began(pid, run.id)
    for (;;) {
      const alive = await conmonAlive(conmonPid, run.id)
      const code = await exitCodeOf(join(exitsOf(bundle), run.id)) // after the look at conmon: it writes before it ends
      if (code !== undefined || !alive) {
        if (pid !== undefined) this.#parts.carried?.over(pid)
        const { pid: _pid, conmonPid: _conmon, ...kept } = service.kept
        await this.#keep(service, { ...kept, lastExitCode: code ?? LOST_EXIT_CODE })
        return
      }
      await this.#parts.clock.sleep(this.#options.lookMs ?? 250, { signal })
    }
  }

  async #keep(service: Service, kept: Kept): Promise<void> {
    service.kept = kept
    await writeWhole(stateOf(service.bundle), JSON.stringify(kept))
  }
}

const exitsOf = (bundle: Bundle) => join(bundle.path, 'exit')
const stateOf = (bundle: Bundle) => join(bundle.path, 'state.json')

/** Takes away what a former run left, all but its log. */
async function clearService(bundle: Bundle): Promise<void> {
  for (const path of [exitsOf(bundle), stateOf(bundle)]) await rm(path, { recursive: true, force: true })
  await clearRun(bundle)
}

async function keptOf(bundle: Bundle): Promise<Kept> {
  const text = await readFile(stateOf(bundle), 'utf8').catch(() => '{}')
  const json: unknown = JSON.parse(text)
  return Value.Check(Kept, json) ? json : { restarts: 0, pauseMs: FIRST_PAUSE_MS }
}

async function exitCodeOf(path: string): Promise<number | undefined> {
  const text = (await readFile(path, 'utf8').catch(() => '')).trim()
  return /^-?\d{1,10}$/.test(text) ? Number(text) : undefined
}

function viewOf(service: Service): ServiceView {
  const { run, request, command, kept, status, nextTryAt, bundle } = service
  return {
    container: run.name,
    name: request.name,
    command: [...command],
    status,
    ...(kept.pid === undefined ? {} : { pid: kept.pid }),
    restarts: kept.restarts,
    ...(kept.lastExitCode === undefined ? {} : { lastExitCode: kept.lastExitCode }),
    ...(kept.lastError === undefined ? {} : { lastError: kept.lastError }),
    ...(kept.startedAt === undefined ? {} : { startedAt: kept.startedAt }),
    ...(nextTryAt === undefined ? {} : { nextTryAt }),
    logPath: bundle.log,
  }
}
