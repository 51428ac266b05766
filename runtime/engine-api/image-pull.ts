/** `POST /images/create?fromImage=`: a pull, reported as docker reports it. */
import { asDarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Feed } from '../../src/core/feed.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import type { Platform } from '../../src/oci/manifest.ts'
import { hostPlatform, parsePlatform } from '../../src/oci/platform.ts'
import { familiarReference, type Reference } from '../../src/oci/reference.ts'
import { otherPlatform } from '../images/other-platform.ts'
import { type PullEvent, pullImage } from '../images/pull.ts'
import type { DockerParts } from './context.ts'
import { StatusError } from './errors.ts'
import { removeUnneeded } from './unneeded.ts'

/** Pulls, and reports each step in a line; a failure is the last line's `failure`. Never rejects. */
export async function pull(
  request: {
    reference: Reference
    /** Where a person named one. */
    platform: Platform | undefined
    credential: Credential | undefined
    signal: AbortSignal
  },
  parts: DockerParts,
  lines: Feed<Record<string, unknown>>,
): Promise<void> {
  const { reference, platform, credential, signal } = request
  const short = (digest: string) => digest.replace(/^sha256:/, '').slice(0, 12)
  const told = new Map<string, string>()
  const onProgress = (event: PullEvent) => {
    if (event.kind === 'resolved') {
      lines.push({ status: `Pulling from ${pathOf(reference)}`, id: reference.tag ?? reference.digest ?? 'latest' })
      return
    }
    const id = short(event.layer.digest)
    const status = STATES[event.state]
    const progress = event.state === 'downloading'
    if (!progress && told.get(id) === status) return
    told.set(id, status)
    const detail = progress ? { current: event.have, total: event.layer.bytes } : {}
    lines.push({
      status,
      progressDetail: detail,
      ...(progress ? { progress: `${event.have}B/${event.layer.bytes}B` } : {}),
      id,
    })
  }
  const once = (plainHttp: boolean) =>
    pullImage(
      {
        ...{ reference, plainHttp, onProgress, signal },
        platform: platform ?? hostPlatform(),
        ...(credential === undefined ? {} : { credential }),
      },
      parts,
    )
  try {
    const before = await parts.images.find(familiarReference(reference)).catch(() => undefined)
    const { image } = await parts.schemes.ask(reference.registry, { plainHttp: false, signal }, once)
    lines.push({ status: `Digest: ${image.manifest}` })
    const other = otherPlatform(familiarReference(reference), parsePlatform(image.platform), platform)
    if (other !== undefined) lines.push({ status: `WARNING: ${other}` })
    const what = before?.image.manifest === image.manifest ? 'Image is up to date for' : 'Downloaded newer image for'
    lines.push({ status: `Status: ${what} ${familiarReference(reference)}` })
    parts.runtime.events.emit({
      type: 'image',
      action: 'pull',
      id: familiarReference(reference),
      attributes: { name: pathOf(reference) },
    })
  } catch (error) {
    lines.push({ failure: pullFailure(error, reference) })
    // layers that were unpacked by then would be in the way of all else
    if (isDarnerError(error, 'DISK_FULL')) await removeUnneeded(parts).catch(() => {})
  } finally {
    lines.end()
  }
}

const STATES = {
  waiting: 'Waiting',
  present: 'Already exists',
  downloading: 'Downloading',
  unpacking: 'Extracting',
  done: 'Pull complete',
} as const

/** docker's words for what a registry refuses. */
export function pullFailure(error: unknown, reference: Reference): Error {
  const known = asDarnerError(error, `pull ${familiarReference(reference)}`)
  if (known.code === 'ORIGIN_NOT_FOUND')
    return new StatusError(
      404,
      `manifest for ${familiarReference(reference)} not found: manifest unknown: ${known.message}`,
    )
  if (known.code === 'ORIGIN_UNAUTHORIZED' || known.code === 'ORIGIN_DENIED')
    return new StatusError(
      404,
      `pull access denied for ${pathOf(reference)}, repository does not exist or may require 'docker login': ${known.message}`,
    )
  return known
}

/** A repository as people write it. */
export function pathOf(reference: Reference): string {
  return familiarReference({ registry: reference.registry, repository: reference.repository, tag: 'x' }).replace(
    /:x$/,
    '',
  )
}

/** `fromImage` and `tag` as one text; a tag may be a digest. */
export function joined(name: string, tag: string | undefined): string {
  if (!tag) return name
  return tag.includes(':') ? `${name}@${tag}` : `${name}:${tag}`
}
