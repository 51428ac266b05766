/** From a request to the record of a container that doesn't run yet: what image, extension, host, networks and volumes say of it. */
import { randomBytes } from 'node:crypto'
import type { MountRequest } from '../../src/api/container-options.ts'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import type { IdMap } from '../../src/core/contracts/snapshots.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { RunExtension } from '../rich/extension.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import { appArmorOf } from '../spec/apparmor.ts'
import { checkCgroupns } from '../spec/cgroup-namespace.ts'
import { argumentsOf } from '../spec/command.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { hasController, hasSwappiness, resourcesOf, rlimitsOf } from '../spec/resources.ts'
import { seccompOf } from '../spec/seccomp.ts'
import { signalNumber } from '../spec/signals.ts'
import { capabilitiesOf, type HostFacts } from '../spec/spec.ts'
import { checkVolumeName, type Volumes, volumeAsked } from '../volumes/volumes.ts'
import type { ContainerNetworks, ImageStore, ResolvedImage } from './dependencies.ts'
import { enforceable } from './enforceable.ts'
import type { ContainerRecord } from './record.ts'
import { CONTAINER_STATES } from './states.ts'
import { checkUserns, freeRange } from './userns.ts'

export interface AdmissionOptions {
  /** Name of the runtime for requests that name none. */
  readonly defaultRuntime: string
  /** Network of requests that name none, where the agent has networks; default `bridge`. */
  readonly defaultNetwork?: string
  /** Of requests that don't say; default `host`. */
  readonly defaultUserns?: 'host' | 'auto'
}

export interface AdmissionParts {
  readonly images: ImageStore
  readonly runtimes: ReadonlyMap<string, OciRuntime>
  readonly host: HostFacts
  readonly clock: Clock
  readonly volumes: Volumes
  readonly networks?: ContainerNetworks
  readonly extension?: RunExtension
  /** Why this host can't show files with mapped owners; undefined when it can. */
  readonly idmapRefusal: () => Promise<string | undefined>
  /** Ids of the host that containers have. */
  readonly idsTaken: () => IdMap[]
  /** Throws NOT_FOUND unless there is such a container. */
  readonly mustExist: (reference: string) => void
}

export class Admission {
  readonly #options: AdmissionOptions
  readonly #parts: AdmissionParts

  constructor(options: AdmissionOptions, parts: AdmissionParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Throws BAD_ARGUMENT for a runtime that isn't one of the agent's. */
  runtimeOf(given: CreateRequest): string {
    const runtime = given.runtime ?? this.#options.defaultRuntime
    if (this.#parts.runtimes.has(runtime)) return runtime
    const known = [...this.#parts.runtimes.keys()].join(', ')
    throw new DarnerError('BAD_ARGUMENT', `runtime ${runtime} is not one of this agent's: ${known}`)
  }

  /** Throws BAD_ARGUMENT, NOT_FOUND for the image, MANIFEST_INVALID, HOST_UNABLE. Its volumes are made by {@link makeVolumes}, once it has a record. */
  async admit(
    asked: CreateRequest,
    { id, name, runtime }: { id: string; name: string; runtime: string },
  ): Promise<{ record: ContainerRecord; warnings: string[] }> {
    const image = await this.#parts.images.resolve(asked.image)
    const { request, given, warnings } = await this.requestFor(this.#withNetwork(asked), image)
    const userns = await this.#userns(request, runtime)
    const { host } = this.#parts
    const apparmor = appArmorOf(request, host.appArmor)
    const record: ContainerRecord = {
      version: 1,
      id,
      name,
      status: CONTAINER_STATES.initial,
      request,
      ...(given === undefined ? {} : { given }),
      imageId: image.id,
      imageReference: image.reference,
      imageConfig: image.config,
      layers: image.layers,
      runtime,
      seccomp: seccompOf(request, host.seccomp)?.name ?? 'unconfined',
      ...(apparmor === undefined ? {} : { apparmor }),
      ...(userns ? { userns } : {}),
      argv: [],
      createdAt: this.#parts.clock.now(),
    }
    return { record, warnings: [...warnings] }
  }

  /**
   * The request as it suits an image. It is as `given`, less what was left out by force, if the image or the rich mode changed it. Throws
   * like {@link admit}.
   */
  async requestFor(
    asked: CreateRequest,
    image: ResolvedImage,
  ): Promise<{ request: CreateRequest; given?: CreateRequest; warnings: readonly string[] }> {
    const { extension } = this.#parts
    const config = readImageConfig(image.config, image.reference)
    const settled = extension?.settle(asked, config) ?? { request: asked, warnings: [] }
    const { request, warnings, leave } = await enforceable(settled.request, (one) => this.#checkHost(one))
    this.#checkConfined(request)
    argumentsOf(config, request, image.reference)
    if (request.autoRemove === true && request.restart !== undefined && request.restart.name !== 'no')
      throw new DarnerError('BAD_ARGUMENT', "can't create 'AutoRemove' container with restart policy")
    await this.#checkNetwork(request)
    const mounts = volumesFor(request, config.volumes)
    signalNumber(request.stopSignal ?? (config.stopSignal || 'TERM'))
    const whole = mounts.length === 0 ? request : { ...request, mounts }
    return {
      request: whole,
      ...(settled.request === asked ? {} : { given: leave(asked) }),
      warnings: [...settled.warnings, ...warnings, ...this.#discarded(request)],
    }
  }

  /** Throws HOST_UNABLE where this host has no mapped mounts, beside what {@link checkUserns} throws. */
  async #userns(request: CreateRequest, runtime: string): Promise<IdMap | undefined> {
    if ((request.userns ?? this.#options.defaultUserns ?? 'host') === 'host') return undefined
    checkUserns(request)
    if (request.network !== 'none' && JOINS_USER_FIRST.test((await this.#version(runtime)) ?? ''))
      throw new DarnerError(
        'HOST_UNABLE',
        `user namespaces: ${runtime} before 1.2 runs no exec in one that is on a network`,
        {
          way: 'use --runtime crun, or --network none',
        },
      )
    const refusal = await this.#parts.idmapRefusal()
    if (refusal === undefined) return freeRange(this.#parts.idsTaken())
    throw new DarnerError('HOST_UNABLE', `user namespaces: this host can't show files with mapped owners: ${refusal}`, {
      way: 'use --userns host, or a file system and kernel that can: ext4, xfs or btrfs on Linux 5.19',
    })
  }

  async #version(runtime: string): Promise<string | undefined> {
    return await this.#parts.runtimes.get(runtime)?.version({ signal: AbortSignal.timeout(VERSION_MS) })
  }

  /** The default network, where there are networks, is recorded: it may be another one at the next start of the agent. */
  #withNetwork(request: CreateRequest): CreateRequest {
    const { networks } = this.#parts
    return networks && request.network === undefined
      ? { ...request, network: this.#options.defaultNetwork ?? 'bridge' }
      : request
  }

  async #checkNetwork(request: CreateRequest): Promise<void> {
    const mode = request.network ?? 'host'
    if (mode.startsWith('container:')) this.#parts.mustExist(mode.slice('container:'.length))
    if (this.#parts.networks) await this.#parts.networks.check(request)
    else if (mode !== 'host' && mode !== 'none' && !mode.startsWith('container:'))
      throw new DarnerError('UNSUPPORTED', `network ${mode}: this agent has only host and none`)
  }

  /** Throws HOST_UNABLE for what this host can't enforce, BAD_ARGUMENT and UNSUPPORTED for what no force makes right. */
  async #checkHost(request: CreateRequest): Promise<void> {
    const { host, extension } = this.#parts
    capabilitiesOf(request, host.limits)
    resourcesOf(request.resources ?? {}, host.cgroups, host.cpus)
    rlimitsOf(request.ulimits ?? [], host.limits)
    checkCgroupns(request, host)
    if (request.init === true && host.init === undefined)
      throw new DarnerError('HOST_UNABLE', 'init: this host has no static init', { way: 'apt install tini' })
    if (request.devices?.length && !hasController(host.cgroups, 'devices') && host.cgroups.v2 === undefined)
      throw new DarnerError('HOST_UNABLE', 'devices: this host has no devices controller')
    await extension?.check(request)
  }

  /** In docker's words, for what it takes and does without as well. */
  #discarded({ resources }: CreateRequest): string[] {
    if (resources?.memorySwappiness === undefined || hasSwappiness(this.#parts.host.cgroups)) return []
    return [
      'Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.',
    ]
  }

  /** What confines is never left out by force. Throws HOST_UNABLE. */
  #checkConfined(request: CreateRequest): void {
    const { host } = this.#parts
    seccompOf(request, host.seccomp)
    appArmorOf(request, host.appArmor)
  }

  /** Makes the volumes of a request that is on record, so that none is nobody's. Throws CONFLICT, BAD_ARGUMENT, HOST_UNABLE, DISK_FULL. */
  async makeVolumes(request: CreateRequest): Promise<void> {
    const { volumes, clock } = this.#parts
    for (const one of request.mounts ?? []) {
      if (one.type === 'volume' && one.source)
        await volumes.ensure(one.source, volumeAsked(one, request.volumeQuotas, clock.now()))
    }
  }
}

/** The mounts that the request and the image ask for, with the names of their volumes. Throws BAD_ARGUMENT. */
function volumesFor(request: CreateRequest, declared: readonly string[]): MountRequest[] {
  const asked = request.mounts ?? []
  const quotas = request.volumeQuotas ?? {}
  const targets = new Set(asked.map((one) => one.target))
  if (targets.size < asked.length) throw new DarnerError('BAD_ARGUMENT', 'Duplicate mount point')
  const extra = declared
    .map((path) => (path.startsWith('/') ? path : `/${path}`))
    .filter((path) => !targets.has(path))
    .map((target): MountRequest => ({ type: 'volume', target }))
  const all = [...asked, ...extra].map((one): MountRequest => {
    if (one.type !== 'volume' || one.source) return one
    return { ...one, source: randomBytes(32).toString('hex'), anonymous: true }
  })
  const volumePaths = new Set(all.filter((one) => one.type === 'volume').map((one) => one.target))
  const stray = Object.keys(quotas).find((path) => !volumePaths.has(path))
  if (stray !== undefined) {
    const bound = all.some((one) => one.type === 'bind' && one.target === stray)
    const what = bound ? 'a folder of this host is mounted there, which is not its own' : 'no volume is mounted there'
    throw new DarnerError('BAD_ARGUMENT', `disk quota of ${stray}: ${what}`, { way: 'mount a volume there' })
  }
  for (const { type, source } of all) if (type === 'volume') checkVolumeName(source ?? '')
  return all
}

/** It enters the user namespace before the network's, which belongs to the host: then it may not any more. */
const JOINS_USER_FIRST = /^runc version 1\.[01]\./
const VERSION_MS = 10_000
