/** Shapes of upgrade in place: `POST /v1/containers/:id/upgrade`, `…/rollback`, and what `inspect` shows of both. */
import { type Static, Type } from 'typebox'

const closed = { additionalProperties: false } as const
const Time = Type.Number({ description: 'epoch milliseconds' })

/**
 * What becomes of the writable layer. `unowned`: what the new image has no path for stays; `keep`: all of it, over the new image;
 * `fresh`: nothing.
 */
export const UpperRule = Type.Union([Type.Literal('unowned'), Type.Literal('keep'), Type.Literal('fresh')])
export type UpperRule = Static<typeof UpperRule>

export const UpgradeRequest = Type.Object(
  {
    image: Type.String({ maxLength: 1024, description: 'reference, digest or id of an image that is on this host' }),
    /** Default `unowned`. */
    upper: Type.Optional(UpperRule),
    /** Absolute paths at and below which the container's files win over the new image's. */
    merge: Type.Optional(Type.Array(Type.String({ pattern: '^/', maxLength: 4096 }), { maxItems: 1000 })),
    healthTimeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000, description: 'default 60 s' })),
    /** How long a rollback stays possible. */
    keepMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 31_536_000_000, description: 'default 24 h' })),
    /** Only reports what would be done. */
    dryRun: Type.Optional(Type.Boolean()),
  },
  closed,
)
export type UpgradeRequest = Static<typeof UpgradeRequest>

export const RollbackRequest = Type.Object(
  { healthTimeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000, description: 'default 60 s' })) },
  closed,
)
export type RollbackRequest = Static<typeof RollbackRequest>

/** Of one path of the writable layer. */
export const UpperVerdict = Type.Union([
  Type.Literal('keep', { description: 'the new image has no such path: it stays' }),
  Type.Literal('drop', { description: "the new image has the path: the image's shows" }),
  Type.Literal('return', { description: 'was deleted in the container, and is in the new image: it is back' }),
  Type.Literal('win', { description: "the new image has the path, the container's shows all the same" }),
  Type.Literal('delete', { description: 'was deleted in the container and stays so' }),
])
export type UpperVerdict = Static<typeof UpperVerdict>

export const UpperChange = Type.Object({
  /** Bytes that are no UTF-8 are shown as U+FFFD. */
  path: Type.String(),
  verdict: UpperVerdict,
  kind: Type.Union([Type.Literal('file'), Type.Literal('directory'), Type.Literal('other')]),
  bytes: Type.Integer(),
})
export type UpperChange = Static<typeof UpperChange>

const ImageName = Type.Object({ image: Type.String(), imageId: Type.String() })

/** The result of a dry run. */
export const UpgradePlan = Type.Object({
  from: ImageName,
  to: ImageName,
  /** At most 10,000, in the order of paths; directories of both sides only where something is decided about them. */
  upper: Type.Array(UpperChange),
  truncated: Type.Boolean(),
  counts: Type.Record(Type.String(), Type.Integer()),
  /** Bytes that are copied from the old writable layer. */
  keptBytes: Type.Integer(),
  /** Paths of volumes and binds, which stay as they are. */
  mounts: Type.Array(Type.String()),
})
export type UpgradePlan = Static<typeof UpgradePlan>

/** One upgrade or rollback that is over. */
export const UpgradeHistory = Type.Object({
  kind: Type.Union([Type.Literal('upgrade'), Type.Literal('rollback')]),
  from: ImageName,
  to: ImageName,
  /** `undone`: it failed, and the container is as it was. */
  outcome: Type.Union([Type.Literal('done'), Type.Literal('undone')]),
  error: Type.Optional(Type.String()),
  startedAt: Time,
  endedAt: Time,
  /** From the stop signal to the new process; absent when it didn't run, or an agent ended in between. */
  downMs: Type.Optional(Type.Number()),
})
export type UpgradeHistory = Static<typeof UpgradeHistory>

/** The generation that a rollback brings back. */
export const PreviousView = Type.Object({ image: Type.String(), imageId: Type.String(), until: Time })
export type PreviousView = Static<typeof PreviousView>

export const UpgradeReply = Type.Object({
  id: Type.String(),
  name: Type.String(),
  /** Of a dry run. */
  plan: Type.Optional(UpgradePlan),
  /** Of one that was done. */
  done: Type.Optional(UpgradeHistory),
  previous: Type.Optional(PreviousView),
})
export type UpgradeReply = Static<typeof UpgradeReply>
