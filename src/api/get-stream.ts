/** What the local API's `get` is asked; its answer is in get-frames.ts. */
import { type Static, Type } from 'typebox'
import { Credential, Origin, RegistryOrigin } from '../core/task/origin.ts'
import { MAX_TASK_BYTES } from '../core/task/task.ts'

const Offset = Type.Integer({ minimum: 0, maximum: MAX_TASK_BYTES })

export const GetRequest = Type.Object(
  {
    origin: Origin,
    digest: Type.Optional(Type.String({ maxLength: 160 })),
    /** The length that is known to be right; another is refused. */
    bytes: Type.Optional(Offset),
    credential: Type.Optional(Credential),
    priority: Type.Union([Type.Literal('interactive'), Type.Literal('background')]),
    /** `landed`: data as pieces land, in any order; `ordered`: from first byte to last. */
    order: Type.Union([Type.Literal('landed'), Type.Literal('ordered')]),
    /** The caller can open the store's file itself. It gets the ranges that landed, and the bytes stay where they are. */
    byFile: Type.Optional(Type.Boolean()),
    /** A part only, in order: [from, to), open to the end without `to`; or the last `last` bytes. */
    range: Type.Optional(
      Type.Union([
        Type.Object({ from: Offset, to: Type.Optional(Offset) }, { additionalProperties: false }),
        Type.Object({ last: Offset }, { additionalProperties: false }),
      ]),
    ),
    /** `never`: this host doesn't read the origin, whatever happens to the supernode. */
    fromOrigin: Type.Optional(Type.Literal('never')),
    /** Most bytes per second that this host takes in of the blob, while nobody here wants it faster. */
    rateBytesPerSec: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 50 })),
  },
  { additionalProperties: false },
)
export type GetRequest = Static<typeof GetRequest>

/** What the local API's `manifest` is asked: by tag or digest, with the asker's own rights. */
export const GetManifestRequest = Type.Object(
  {
    origin: Type.Omit(RegistryOrigin, ['collection'], { additionalProperties: false }),
    reference: Type.String({ maxLength: 160 }),
    credential: Type.Optional(Credential),
  },
  { additionalProperties: false },
)
export type GetManifestRequest = Static<typeof GetManifestRequest>

export interface GetManifestReply {
  readonly digest: string
  readonly mediaType: string
  /** The manifest's exact bytes, in base64. */
  readonly body: string
}

/** What `put` answers: what any host of the swarm can get it by. */
export interface PutReply {
  readonly digest: string
  readonly bytes: number
}
