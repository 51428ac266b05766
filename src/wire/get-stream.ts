/** What the local API's `get` is asked; its answer is in get-frames.ts. */
import { type Static, Type } from 'typebox'
import { Credential, Origin } from '../task/origin.ts'

export const GetRequest = Type.Object(
  {
    origin: Origin,
    digest: Type.Optional(Type.String({ maxLength: 160 })),
    credential: Type.Optional(Credential),
    priority: Type.Union([Type.Literal('interactive'), Type.Literal('background')]),
    /** `landed`: data as pieces land, in any order; `ordered`: from first byte to last. */
    order: Type.Union([Type.Literal('landed'), Type.Literal('ordered')]),
    /** The asker can open the store's file itself: it is told which ranges landed, and the bytes stay where they are. */
    byFile: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)
export type GetRequest = Static<typeof GetRequest>
