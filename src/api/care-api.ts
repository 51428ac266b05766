/** Shapes of the agent's local API for the care of store and links: what is held, what would go, limits, and why origins were read. */
import { type Static, Type } from 'typebox'

const Whole = Type.Integer({ minimum: 0 })
const closed = { additionalProperties: false }

/** `GET /v1/store`. */
export const StoreView = Type.Object({
  completeBytes: Whole,
  partialBytes: Whole,
  pinnedBytes: Whole,
  leasedBytes: Whole,
  blobs: Whole,
  partials: Whole,
  /** What a collection could free now. */
  reclaimableBytes: Whole,
  /** Left on the file system. */
  freeBytes: Whole,
  /** Collection starts above this many bytes, and goes down to so many. */
  highBytes: Whole,
  lowBytes: Whole,
})
export type StoreView = Static<typeof StoreView>

/** `POST /v1/store/collect`. */
export const CollectRequest = Type.Object(
  {
    dryRun: Type.Boolean(),
    /** Go down to this; by default everything goes that nothing holds. */
    targetBytes: Type.Optional(Whole),
  },
  closed,
)
export const CollectView = Type.Object({
  victims: Type.Array(Type.Object({ task: Type.String(), bytes: Whole, lastUsedMs: Type.Number() })),
  freedBytes: Whole,
  usedBytes: Whole,
})
export type CollectView = Static<typeof CollectView>

const Direction = Type.Union([Type.Literal('in'), Type.Literal('out')])
const Text = Type.String({ minLength: 1, maxLength: 512 })

/** What a limit is on, as src/exchange/limits has it. Not closed: a validator that drops what a branch doesn't know would drop it for all. */
export const LimitScope = Type.Union([
  Type.Object({ on: Type.Literal('host') }),
  Type.Object({ on: Type.Literal('direction'), direction: Direction }),
  Type.Object({
    on: Type.Literal('class'),
    direction: Direction,
    priority: Type.Union([Type.Literal('interactive'), Type.Literal('background')]),
  }),
  Type.Object({ on: Type.Literal('origin'), origin: Text }),
  Type.Object({ on: Type.Literal('task'), task: Text, direction: Type.Optional(Direction) }),
  Type.Object({ on: Type.Literal('peer'), peer: Text, direction: Type.Optional(Direction) }),
])
export type LimitScope = Static<typeof LimitScope>

const Limit = Type.Object({ bytesPerSec: Type.Integer({ minimum: 1 }), borrow: Type.Optional(Type.Boolean()) }, closed)

/** What of what this host serves gives way to all other traffic on its way: nothing, what goes to background downloads, or all of it. */
export const UploadYield = Type.Union([Type.Literal('none'), Type.Literal('background'), Type.Literal('all')])
export type UploadYield = Static<typeof UploadYield>

/** `PUT /v1/limits`: without a limit the one there is lifted. `GET` lists them. */
export const LimitRequest = Type.Object({ scope: LimitScope, limit: Type.Optional(Limit) }, closed)
export const LimitList = Type.Object({
  limits: Type.Array(Type.Object({ scope: LimitScope, limit: Limit }, closed)),
  uploadYield: UploadYield,
})
/** `PUT /v1/limits/yield`. */
export const YieldRequest = Type.Object({ uploadYield: UploadYield }, closed)
export type LimitRequest = Static<typeof LimitRequest>
export type LimitList = Static<typeof LimitList>

/** `GET /v1/why/TASK`. */
export const WhyView = Type.Object({
  task: Type.String(),
  reads: Type.Array(
    Type.Object({
      peer: Type.String(),
      host: Type.Optional(Type.String()),
      reason: Type.String(),
      bytes: Whole,
      atMs: Type.Number(),
    }),
  ),
})
export type WhyView = Static<typeof WhyView>
