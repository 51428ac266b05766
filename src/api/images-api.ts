/** Shapes of the agent's HTTP API on its unix socket, images: pull (lines of JSON), list, remove. */
import { type Static, Type } from 'typebox'
import { Credential } from '../core/task/origin.ts'

const Sources = Type.Object({ origin: Type.Integer(), supernode: Type.Integer(), peers: Type.Integer() })

export const PullRequest = Type.Object(
  {
    reference: Type.String({ maxLength: 1024, description: 'registry/name:tag or registry/name@digest' }),
    plainHttp: Type.Optional(Type.Boolean()),
    platform: Type.Optional(Type.String({ maxLength: 64, description: 'os/arch[/variant]; default: this host' })),
    credential: Type.Optional(Credential),
  },
  { additionalProperties: false },
)
export type PullRequest = Static<typeof PullRequest>

/** One line of the reply to a pull. A failure is a last line `{ error: { code, message, way } }`. */
export type PullLine =
  | {
      readonly kind: 'resolved'
      readonly manifest: string
      readonly layers: readonly { readonly digest: string; readonly bytes: number }[]
    }
  | {
      readonly kind: 'layer'
      readonly digest: string
      readonly bytes: number
      readonly state: 'waiting' | 'present' | 'downloading' | 'unpacking' | 'done'
      readonly have: number
      readonly from: Static<typeof Sources>
    }
  | { readonly kind: 'pulled'; readonly summary: PullSummary }

/** Summed over the blobs that were read; `digest` is the image manifest's. */
export interface PullSummary {
  readonly digest: string
  readonly bytes: number
  readonly seconds: number
  readonly from: Static<typeof Sources>
  readonly pieces: number
  /** That it is of another platform than was asked for: a reference that is no index has one only. */
  readonly warning?: string
}

export const ImageView = Type.Object({
  id: Type.String(),
  manifest: Type.String(),
  tags: Type.Array(Type.String()),
  digests: Type.Array(Type.String()),
  platform: Type.String(),
  /** Compressed bytes of all layers. */
  bytes: Type.Integer(),
  layers: Type.Integer(),
  /** Digests of its config and layers, which come through the swarm. */
  blobs: Type.Array(Type.String()),
  pulledAt: Type.Integer(),
})
export type ImageView = Static<typeof ImageView>

export const ImageList = Type.Object({ images: Type.Array(ImageView) })
export type ImageList = Static<typeof ImageList>

/** `GET /v1/layers`: what unpacked layers take. */
export const LayerUse = Type.Object({
  layers: Type.Integer(),
  bytes: Type.Integer(),
  /** Of those that a container stands on, running or not. */
  usedBytes: Type.Integer(),
})
export type LayerUse = Static<typeof LayerUse>

export const RemoveImageQuery = Type.Object(
  { reference: Type.String({ maxLength: 1024 }), force: Type.Optional(Type.Boolean()) },
  { additionalProperties: false },
)
