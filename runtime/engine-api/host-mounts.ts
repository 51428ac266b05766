/** What docker's HostConfig says about mounts: Binds, Mounts and Tmpfs -> mounts of the request. */
import { isAbsolute, normalize } from 'node:path'
import { type Static, Type } from 'typebox'
import type { MountRequest } from '../../src/api/container-options.ts'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import { quotaOf as volumeQuotaOf } from '../volumes/volumes.ts'
import { StatusError } from './errors.ts'
import { OptFlag, OptMap, OptNumber, OptText } from './optional.ts'

export const MountBody = Type.Object(
  {
    Type: Type.String(),
    Source: OptText(),
    Target: Type.String({ maxLength: 4096 }),
    ReadOnly: OptFlag(),
    Consistency: OptText(),
    BindOptions: Type.Optional(
      Type.Union([
        Type.Object(
          {
            Propagation: OptText(),
            NonRecursive: OptFlag(),
            CreateMountpoint: OptFlag(),
            ReadOnlyNonRecursive: OptFlag(),
            ReadOnlyForceRecursive: OptFlag(),
          },
          { additionalProperties: false },
        ),
        Type.Null(),
      ]),
    ),
    VolumeOptions: Type.Optional(
      Type.Union([
        Type.Object(
          {
            NoCopy: OptFlag(),
            Labels: OptMap(),
            Subpath: OptText(),
            DriverConfig: Type.Optional(Type.Union([Type.Object({ Name: OptText(), Options: OptMap() }), Type.Null()])),
          },
          { additionalProperties: false },
        ),
        Type.Null(),
      ]),
    ),
    TmpfsOptions: Type.Optional(
      Type.Union([
        Type.Object({ SizeBytes: OptNumber(), Mode: OptNumber() }, { additionalProperties: false }),
        Type.Null(),
      ]),
    ),
  },
  { additionalProperties: false },
)

/** The members of HostConfig that are read here. */
export interface AskedMounts {
  readonly Binds?: readonly string[] | null
  readonly Mounts?: readonly Static<typeof MountBody>[] | null
  readonly Tmpfs?: Readonly<Record<string, string>> | null
}

/** What `volume-opt` keeps volumes to, by target; undefined without any. Throws 400 and 501 as `docker volume create` does. */
export function readVolumeQuotas({ Mounts }: AskedMounts): CreateRequest['volumeQuotas'] {
  const found = (Mounts ?? []).flatMap(({ Type: type, Source, Target, VolumeOptions }) => {
    if (type !== 'volume') return []
    const quota = volumeQuotaOf(Source ?? '', VolumeOptions?.DriverConfig?.Options ?? {})
    return quota === undefined ? [] : [[targetPath(Target), quota] as const]
  })
  return found.length === 0 ? undefined : Object.fromEntries(found)
}

/** Binds, Mounts, Tmpfs, and volumes that Config declares, in this order. Throws 400, and 501 for what is not offered. */
export function readMounts(config: AskedMounts, declared: readonly string[]): MountRequest[] {
  const mounts = [
    ...(config.Binds ?? []).map(readBind),
    ...(config.Mounts ?? []).map(readMount),
    ...Object.entries(config.Tmpfs ?? {}).map(([target, words]): MountRequest => readTmpfs(target, words)),
  ]
  const targets = new Set<string>()
  for (const { target } of mounts) {
    if (targets.has(target)) throw new StatusError(400, `Duplicate mount point: ${target}`)
    targets.add(target)
  }
  const more = declared.map(targetPath).filter((target) => !targets.has(target))
  return [...mounts, ...more.map((target): MountRequest => ({ type: 'volume', target }))]
}

const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'] as const
type Propagation = (typeof PROPAGATIONS)[number]
const isPropagation = (word: string): word is Propagation => (PROPAGATIONS as readonly string[]).includes(word)

function targetPath(target: string): string {
  if (!isAbsolute(target)) throw new StatusError(400, `invalid mount path: '${target}' mount path must be absolute`)
  const path = normalize(target).replace(/(.)\/$/, '$1')
  if (path === '/') throw new StatusError(400, "invalid specification: destination can't be '/'")
  return path
}

/** `SOURCE:TARGET[:MODE]`. */
function readBind(text: string): MountRequest {
  const [source = '', target, mode = '', ...rest] = text.split(':')
  if (source === '' || target === undefined || rest.length > 0)
    throw new StatusError(400, `invalid volume specification: '${text}'`)
  const words = mode.split(',').filter((word) => word !== '')
  const unknown = words.find(
    (word) =>
      !['ro', 'rw', 'z', 'Z', 'nocopy', 'cached', 'delegated', 'consistent'].includes(word) && !isPropagation(word),
  )
  if (unknown !== undefined) throw new StatusError(400, `invalid mode: ${mode}`)
  const propagation = words.find(isPropagation)
  const shared = {
    target: targetPath(target),
    ...(words.includes('ro') ? { readonly: true } : {}),
    ...(propagation === undefined ? {} : { propagation }),
  }
  if (isAbsolute(source)) return { type: 'bind', source: normalize(source), makeSource: true, ...shared }
  return { type: 'volume', source, ...(words.includes('nocopy') ? { noCopy: true } : {}), ...shared }
}

function readMount(body: Static<typeof MountBody>): MountRequest {
  const target = targetPath(body.Target)
  const readonly = body.ReadOnly ? { readonly: true } : {}
  switch (body.Type) {
    case 'bind': {
      const source = body.Source ?? ''
      if (!isAbsolute(source))
        throw new StatusError(
          400,
          `invalid mount config for type "bind": invalid mount path: '${source}' mount path must be absolute`,
        )
      if (body.BindOptions?.NonRecursive)
        throw new StatusError(501, 'bind-nonrecursive is not offered: binds are recursive')
      if (body.ReadOnly && body.BindOptions?.ReadOnlyForceRecursive)
        throw new StatusError(501, 'bind-recursive=readonly is not offered: mounts below the source stay writable')
      const word = body.BindOptions?.Propagation ?? ''
      if (word !== '' && !isPropagation(word))
        throw new StatusError(400, `invalid mount config for type "bind": invalid propagation mode: ${word}`)
      return {
        type: 'bind',
        source: normalize(source),
        target,
        ...readonly,
        ...(isPropagation(word) ? { propagation: word } : {}),
        ...(body.BindOptions?.CreateMountpoint ? { makeSource: true } : {}),
      }
    }
    case 'volume': {
      const { DriverConfig, NoCopy, Labels, Subpath } = body.VolumeOptions ?? {}
      if (DriverConfig?.Name && DriverConfig.Name !== 'local')
        throw new StatusError(501, `volume driver ${DriverConfig.Name} is not offered: only local is`)
      if (Subpath) throw new StatusError(501, 'volume-subpath is not offered: mount the whole volume')
      return {
        type: 'volume',
        ...(body.Source ? { source: body.Source } : {}),
        target,
        ...readonly,
        ...(NoCopy ? { noCopy: true } : {}),
        ...(Labels ? { labels: Labels } : {}),
      }
    }
    case 'tmpfs': {
      const { SizeBytes, Mode } = body.TmpfsOptions ?? {}
      const options = [...(SizeBytes ? [`size=${SizeBytes}`] : []), ...(Mode ? [`mode=${Mode.toString(8)}`] : [])]
      return { type: 'tmpfs', target, ...readonly, ...(options.length > 0 ? { options } : {}) }
    }
    default:
      throw new StatusError(400, `invalid mount config: mount type unknown: "${body.Type.slice(0, 100)}"`)
  }
}

function readTmpfs(target: string, words: string): MountRequest {
  const options = words.split(',').filter((word) => word !== '' && word !== 'rw' && word !== 'ro')
  const bad = options.find(
    (word) =>
      !/^((no)?(exec|suid|dev|atime|diratime)|relatime|(size|mode|uid|gid|nr_inodes|nr_blocks)=[0-9A-Za-z%]+)$/.test(
        word,
      ),
  )
  if (bad !== undefined) throw new StatusError(400, `invalid tmpfs option ["${bad.slice(0, 100)}"]`)
  return {
    type: 'tmpfs',
    target: targetPath(target),
    ...(/(^|,)ro(,|$)/.test(words) ? { readonly: true } : {}),
    ...(options.length > 0 ? { options } : {}),
  }
}
