/** The record of one container, as it is kept across restarts of the agent. */
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { ContainerStatus, type ContainerView, CoreDump, CreateRequest } from '../../src/api/containers-api.ts'
import { HookResult } from '../../src/api/rich-api.ts'
import type { IdMap } from '../../src/core/contracts/snapshots.ts'
import { type Digest, parseDigest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { type Generation, UPGRADE_MEMBERS } from '../upgrade/journal.ts'
import type { RecordSpace } from './dependencies.ts'

const Time = Type.Number({ description: 'epoch milliseconds' })

const Stored = Type.Object({
  version: Type.Literal(1),
  id: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  name: Type.String(),
  status: ContainerStatus,
  request: CreateRequest,
  imageId: Type.String(),
  imageReference: Type.String(),
  /** The image's configuration, so that a container starts again after its image was untagged. */
  imageConfig: Type.Unknown(),
  layers: Type.Array(Type.String()),
  runtime: Type.String(),
  seccomp: Type.String(),
  apparmor: Type.Optional(Type.String()),
  /** Its user namespace: which ids of the host are its own. Absent: the host's. */
  userns: Type.Optional(Type.Object({ base: Type.Integer(), size: Type.Integer() })),
  argv: Type.Array(Type.String()),
  createdAt: Time,
  startedAt: Type.Optional(Time),
  finishedAt: Type.Optional(Time),
  pid: Type.Optional(Type.Integer()),
  conmonPid: Type.Optional(Type.Integer()),
  exitCode: Type.Optional(Type.Integer()),
  oomKilled: Type.Optional(Type.Boolean()),
  /** Processes of this run that were killed for memory, as far as that was reported. */
  oomKills: Type.Optional(Type.Integer()),
  /** The last of this run. */
  coreDumps: Type.Optional(Type.Array(CoreDump)),
  error: Type.Optional(Type.String()),
  /** The end was asked for: no restart policy applies. */
  stopRequested: Type.Optional(Type.Boolean()),
  /** By number: what the init of the root file system shuts down by. */
  stopSignal: Type.Optional(Type.Integer()),
  readyAt: Type.Optional(Time),
  hookResults: Type.Optional(Type.Array(HookResult)),
  /** A run was begun, and what belongs after it (post-stop hooks among it) has not been done yet. */
  endDue: Type.Optional(Type.Boolean()),
  /** Its removal takes the volumes that were made for it only. */
  volumesToo: Type.Optional(Type.Boolean()),
  /** Restarts by the policy, counted anew when somebody starts the container. */
  restartCount: Type.Optional(Type.Integer()),
  /** What the last health checks said. */
  health: Type.Optional(
    Type.Object({
      status: Type.Union([Type.Literal('starting'), Type.Literal('healthy'), Type.Literal('unhealthy')]),
      failingStreak: Type.Integer(),
    }),
  ),
  ...UPGRADE_MEMBERS,
})

export type ContainerRecord = Omit<Static<typeof Stored>, 'layers'> & { readonly layers: readonly Digest[] }

/** Keeps records in a {@link RecordSpace}; each write is one whole record under the container's id. */
export class Records {
  readonly #space: RecordSpace

  constructor(space: RecordSpace) {
    this.#space = space
  }

  /**
   * `sync` waits for the disk: a power loss can't undo it. Without it only the machine's end can, not the agent's. `reserved`: as
   * {@link RecordSpace} has it.
   */
  async put(record: ContainerRecord, options: { sync: boolean; reserved?: boolean }): Promise<void> {
    await this.#space.put(record.id, JSON.stringify(record), options)
  }

  async remove(id: string): Promise<void> {
    await this.#space.del(id, { sync: true })
  }

  /** All that can be read; what can't is handed to `bad` with its key and skipped: one record never blocks the rest. */
  async all(bad: (key: string, error: unknown) => void): Promise<ContainerRecord[]> {
    const found: ContainerRecord[] = []
    for await (const [key, text] of this.#space.iterator()) {
      try {
        const json: unknown = JSON.parse(text)
        if (!Value.Check(Stored, json))
          throw new DarnerError('STORE_CORRUPT', `container record ${key}: not of version 1`)
        found.push({ ...json, layers: json.layers.map(parseDigest) })
      } catch (error) {
        bad(key, error)
      }
    }
    return found
  }
}

/** How its root file system is mounted for a run. One that its end removes is gone after the machine's end in any case. */
export function mountOptionsOf({ userns, request, upgrade }: Pick<ContainerRecord, 'userns' | 'request' | 'upgrade'>): {
  readonly: false
  volatile: boolean
  idmap?: IdMap
} {
  const volatile = request.autoRemove === true && upgrade === undefined
  return { readonly: false, volatile, ...(userns ? { idmap: userns } : {}) }
}

/** The root file system that it starts on. */
export function rootfsIdOf({ id, rootfsId }: Pick<ContainerRecord, 'id' | 'rootfsId'>): string {
  return rootfsId ?? id
}

/** Of its present generation, of the one that a rollback brings back, and of an upgrade that is under way. */
export function generationsOf(record: ContainerRecord): Generation[] {
  const { upgrade, previous } = record
  const all = [
    generationOf(record),
    ...(upgrade ? [upgrade.from, upgrade.to] : []),
    ...(previous ? [previous.generation] : []),
  ]
  return [...new Map(all.map((one) => [one.rootfsId, one])).values()]
}

export function generationOf(record: ContainerRecord): Generation {
  const { request, imageId, imageReference, imageConfig, layers } = record
  return { request, imageId, imageReference, imageConfig, layers: [...layers], rootfsId: rootfsIdOf(record) }
}

/** What the API shows of a record. */
export function viewOf(record: ContainerRecord, logPath: string): ContainerView {
  const {
    endDue: _e,
    volumesToo: _t,
    stopSignal: _n,
    version: _v,
    imageConfig: _c,
    layers: _l,
    conmonPid: _p,
    given: _g,
    rootfsId: _r,
    generation: _i,
    userns: _u,
    imageReference,
    stopRequested: _s,
    upgrade,
    previous,
    ...rest
  } = record
  return {
    ...rest,
    image: imageReference,
    logPath,
    ...(upgrade ? { upgrade: { kind: upgrade.kind, step: upgrade.step, image: upgrade.to.imageReference } } : {}),
    ...(previous
      ? {
          previous: {
            image: previous.generation.imageReference,
            imageId: previous.generation.imageId,
            until: previous.until,
          },
        }
      : {}),
  }
}
