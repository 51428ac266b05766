/** Descriptors, indexes, manifests and image configs, as they come from outside: bounded, checked, unknown fields tolerated. */
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Digest } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import { MAX_TASK_BYTES } from '../core/task/task.ts'
import { bareMediaType, isIndexType, isManifestType, MEDIA } from './media-types.ts'

/** Longest manifest or config that is read (distribution-spec, "Pushing manifests": registries need not take more than 4 MiB). */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024
/** Most layers of one image; overlayfs stacks 500 lower directories. */
export const MAX_LAYERS = 500
/** Most entries of one index. */
export const MAX_INDEX_ENTRIES = 1000
/** Most values in one document, however short each is: to check a million takes the event loop ten seconds. */
const MAX_VALUES = 32_768

const text = (maxLength: number) => Type.String({ maxLength })
const nullable = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))
const DigestText = Type.Unsafe<Digest>(Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$' }))
const Annotations = nullable(Type.Record(Type.String(), text(65536)))

/** image-spec, image-index.md, "platform". */
export const Platform = Type.Object({
  os: text(64),
  architecture: text(64),
  variant: Type.Optional(text(64)),
  'os.version': Type.Optional(text(128)),
})
export type Platform = Static<typeof Platform>

/** image-spec, descriptor.md. */
export const Descriptor = Type.Object({
  mediaType: Type.String({ minLength: 1, maxLength: 255 }),
  digest: DigestText,
  size: Type.Integer({ minimum: 0, maximum: MAX_TASK_BYTES }),
  urls: nullable(Type.Array(text(8192), { maxItems: 64 })),
  annotations: Annotations,
  artifactType: Type.Optional(text(255)),
  platform: nullable(Platform),
})
export type Descriptor = Static<typeof Descriptor>

/** image-spec, image-index.md; docker's manifest list has the same shape. */
export const Index = Type.Object({
  schemaVersion: Type.Literal(2),
  mediaType: Type.Optional(text(255)),
  manifests: Type.Array(Descriptor, { maxItems: MAX_INDEX_ENTRIES }),
  annotations: Annotations,
})
export type Index = Static<typeof Index>

/** image-spec, manifest.md; docker's v2 schema 2 has the same shape. Layers are lowest first. */
export const Manifest = Type.Object({
  schemaVersion: Type.Literal(2),
  mediaType: Type.Optional(text(255)),
  artifactType: Type.Optional(text(255)),
  config: Descriptor,
  layers: Type.Array(Descriptor, { maxItems: MAX_LAYERS }),
  subject: nullable(Descriptor),
  annotations: Annotations,
})
export type Manifest = Static<typeof Manifest>

const Words = Type.Array(text(131072), { maxItems: 4096 })
const Names = Type.Record(Type.String(), Type.Unknown())

const Health = Type.Object({
  Test: nullable(Words),
  /** Durations in nanoseconds. */
  Interval: nullable(Type.Number()),
  Timeout: nullable(Type.Number()),
  StartPeriod: nullable(Type.Number()),
  StartInterval: nullable(Type.Number()),
  Retries: nullable(Type.Integer()),
})

const RunConfig = Type.Object({
  User: nullable(text(256)),
  ExposedPorts: nullable(Names),
  Env: nullable(Words),
  Entrypoint: nullable(Words),
  Cmd: nullable(Words),
  Volumes: nullable(Names),
  WorkingDir: nullable(text(4096)),
  Labels: nullable(Type.Record(Type.String(), text(1_048_576))),
  StopSignal: nullable(text(64)),
  StopTimeout: nullable(Type.Integer()),
  Shell: nullable(Words),
  Healthcheck: nullable(Health),
})

const History = Type.Object({
  created: nullable(text(64)),
  created_by: nullable(text(1_048_576)),
  author: nullable(text(65536)),
  comment: nullable(text(65536)),
  empty_layer: nullable(Type.Boolean()),
})

/** image-spec, config.md. Writers in Go leave `null` where nothing was set, so every optional field takes it. */
export const ImageConfig = Type.Object({
  os: text(64),
  architecture: text(64),
  variant: nullable(text(64)),
  created: nullable(text(64)),
  author: nullable(text(65536)),
  config: nullable(RunConfig),
  rootfs: Type.Object({ type: Type.Literal('layers'), diff_ids: Type.Array(DigestText, { maxItems: MAX_LAYERS }) }),
  history: nullable(Type.Array(History, { maxItems: MAX_INDEX_ENTRIES * 4 })),
})
export type ImageConfig = Static<typeof ImageConfig>

export type ParsedManifest =
  | { readonly kind: 'manifest'; readonly mediaType: string; readonly manifest: Manifest }
  | { readonly kind: 'index'; readonly mediaType: string; readonly index: Index }

/**
 * Reads what a manifest request brought. `mediaType` is what the origin stated. A body that names another one, or that could be both index
 * and manifest, is refused. Throws MANIFEST_INVALID, or UNSUPPORTED for other kinds of document.
 */
export function parseManifest(body: Uint8Array, mediaType: string): ParsedManifest {
  const json = parseJson(body, 'manifest')
  const stated = bareMediaType(mediaType)
  const own = typeof json.mediaType === 'string' ? json.mediaType : undefined
  if (json.schemaVersion === 1 || /\.distribution\.manifest\.v1(\+|$)/.test(own ?? stated)) {
    throw new DarnerError('MANIFEST_INVALID', 'manifest is of schema version 1, which registries gave up', {
      way: 'push the image again with a current tool',
    })
  }
  const known = isIndexType(stated) || isManifestType(stated)
  if (own !== undefined && known && own !== stated) {
    throw invalid(
      'manifest',
      `it calls itself ${JSON.stringify(own.slice(0, 160))}, the origin calls it ${JSON.stringify(stated.slice(0, 160))}`,
    )
  }
  const both = 'manifests' in json && ('layers' in json || 'config' in json)
  if (both) throw invalid('manifest', 'it has the fields of an index and those of a manifest')
  const type = own ?? (known ? stated : 'manifests' in json ? MEDIA.ociIndex : MEDIA.ociManifest)
  if (isIndexType(type)) return { kind: 'index', mediaType: type, index: check(Index, json, 'index') }
  if (isManifestType(type)) return { kind: 'manifest', mediaType: type, manifest: check(Manifest, json, 'manifest') }
  throw new DarnerError(
    'UNSUPPORTED',
    `manifest of media type ${JSON.stringify(type.slice(0, 160))}: neither an index nor an image manifest`,
  )
}

/**
 * Reads an image config. Fields that are `null` count as absent. With `layers`, their number must be the manifest's.
 * Throws MANIFEST_INVALID.
 */
export function parseImageConfig(body: Uint8Array, expect: { layers?: number } = {}): ImageConfig {
  const config = check(ImageConfig, withoutNulls(parseJson(body, 'image config')), 'image config')
  const diffIds = config.rootfs.diff_ids.length
  if (expect.layers !== undefined && expect.layers !== diffIds) {
    throw invalid('image config', `it has ${diffIds} diff_ids, the manifest ${expect.layers} layers`)
  }
  return config
}

/** Parses a lone descriptor, for instance one that crossed the wire. Throws MANIFEST_INVALID. */
export function parseDescriptor(value: unknown): Descriptor {
  return check(Descriptor, value, 'descriptor')
}

function parseJson(body: Uint8Array, what: string): Record<string, unknown> {
  if (body.byteLength > MAX_MANIFEST_BYTES)
    throw invalid(what, `it has ${body.byteLength} bytes, more than ${MAX_MANIFEST_BYTES}`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    throw new DarnerError('MANIFEST_INVALID', `${what}: it is not JSON in UTF-8`, { cause: error })
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw invalid(what, 'it is not a JSON object')
  const document = json as Record<string, unknown>
  boundLayers(document, what)
  if (valuesIn(document) > MAX_VALUES) throw invalid(what, `it has more than ${MAX_VALUES} values`)
  return document
}

/** Ahead of the schema, which says it of an array in a path. */
function boundLayers({ layers, rootfs }: Record<string, unknown>, what: string): void {
  const diffIds = typeof rootfs === 'object' && rootfs !== null && 'diff_ids' in rootfs ? rootfs.diff_ids : undefined
  for (const each of [layers, diffIds])
    if (Array.isArray(each) && each.length > MAX_LAYERS)
      throw invalid(what, `an image of ${each.length} layers, more than the ${MAX_LAYERS} that can be stacked`)
}

/** Counts no further than it must. */
function valuesIn(value: object): number {
  const waiting: object[] = [value]
  let count = 0
  for (let at = waiting.pop(); at !== undefined && count <= MAX_VALUES; at = waiting.pop()) {
    const members: unknown[] = Array.isArray(at) ? at : Object.values(at)
    count += members.length
    for (const one of members) if (typeof one === 'object' && one !== null) waiting.push(one)
  }
  return count
}

function check<T extends TSchema>(schema: T, value: unknown, what: string): Static<T> {
  if (Value.Check(schema, value)) return value
  for (const error of Value.Errors(schema, value))
    throw invalid(what, `${error.instancePath === '' ? 'it' : error.instancePath} ${error.message}`)
  throw invalid(what, 'it does not fit its schema')
}

function invalid(what: string, why: string): DarnerError {
  return new DarnerError('MANIFEST_INVALID', `${what}: ${why}`)
}

/** Drops null members of objects at the depths where an image config has any. */
function withoutNulls(value: unknown, depth = 4): unknown {
  if (depth === 0 || typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((one) => withoutNulls(one, depth - 1))
  const kept = Object.entries(value).filter(([, member]) => member !== null)
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutNulls(member, depth - 1)]))
}
