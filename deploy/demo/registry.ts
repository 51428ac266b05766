/** A real docker-registry: its settings, pushing an image to it, and what its access log counted. */
import { openAsBlob } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { withDeadline } from '../../src/core/signals.ts'
import { blobPath, type LayoutImage } from './oci-layout.ts'

/** Marks the demo's own requests, which the counts leave out. */
export const OWN_AGENT = 'darner-demo'
const READY_MS = 20_000

/** Writes the settings of a registry that keeps its blobs in `folder`; returns the argument vector that runs it. */
export async function registryCommand(folder: string, listen: string): Promise<string[]> {
  await mkdir(folder, { recursive: true })
  const path = join(folder, 'config.json')
  const settings = {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: listen, secret: 'of one demo' },
  }
  await writeFile(path, JSON.stringify(settings))
  return ['docker-registry', 'serve', path]
}

/** Waits until the registry answers. Throws ORIGIN_UNREACHABLE. */
export async function untilAnswering(url: string, { signal }: { signal: AbortSignal }): Promise<void> {
  const until = withDeadline(signal, READY_MS)
  for (let last: unknown; ; ) {
    try {
      const answer = await fetch(`${url}/v2/`, { headers: { 'user-agent': OWN_AGENT }, signal: until })
      await answer.arrayBuffer()
      if (answer.ok) return
      last = `status ${answer.status}`
    } catch (error) {
      signal.throwIfAborted()
      if (!until.aborted) last = error
    }
    if (until.aborted)
      throw new DarnerError('ORIGIN_UNREACHABLE', `registry at ${url}: no answer within ${READY_MS / 1000} s`, {
        cause: last,
      })
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Pushes an image: each blob once, then its manifest under `tag` (distribution-spec, "Push"). Throws ORIGIN_FAILED. */
export async function pushImage(
  url: string,
  repository: string,
  tag: string,
  image: LayoutImage,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const blobs = new Map([image.manifest.config, ...image.manifest.layers].map((one) => [one.digest, one.size]))
  for (const digest of blobs.keys()) {
    const begun = await send(`${url}/v2/${repository}/blobs/uploads/`, 202, { method: 'POST', signal })
    const place = new URL(begun.get('location') ?? '', url)
    place.searchParams.set('digest', digest)
    const body = await openAsBlob(blobPath(image.folder, digest))
    const headers = { 'content-type': 'application/octet-stream' }
    await send(place.href, 201, { method: 'PUT', body, headers, signal })
  }
  const headers = { 'content-type': image.mediaType }
  const body = Buffer.from(image.manifestBytes)
  await send(`${url}/v2/${repository}/manifests/${tag}`, 201, { method: 'PUT', body, headers, signal })
}

async function send(url: string, wanted: number, init: RequestInit): Promise<Headers> {
  const answer = await fetch(url, { ...init, headers: { 'user-agent': OWN_AGENT, ...init.headers } })
  const text = await answer.text()
  if (answer.status !== wanted)
    throw new DarnerError('ORIGIN_FAILED', `${init.method} ${url}: status ${answer.status}: ${text.slice(0, 200)}`)
  return answer.headers
}

export interface Access {
  readonly method: string
  readonly path: string
  readonly status: number
}

/** One request of the registry's access log (Apache's combined format); undefined for other lines and for the demo's own. */
export function parseAccess(line: string): Access | undefined {
  const match = /^\S+ \S+ \S+ \[[^\]]*\] "([A-Z]+) (\S+) HTTP\/[\d.]+" (\d{3}) \d+ "[^"]*" "([^"]*)"/.exec(line)
  if (match === null || match[4] === OWN_AGENT) return undefined
  return { method: match[1] ?? '', path: match[2] ?? '', status: Number(match[3]) }
}

export interface AccessCounts {
  /** Successful GETs by blob. */
  readonly blobGets: ReadonlyMap<Digest, number>
  /** Everything else, by what it is: `HEAD of a manifest`, `GET of a blob, status 404`. */
  readonly others: ReadonlyMap<string, number>
}

export function countAccesses(lines: Iterable<string>): AccessCounts {
  const blobGets = new Map<Digest, number>()
  const others = new Map<string, number>()
  for (const line of lines) {
    const access = parseAccess(line)
    if (access === undefined) continue
    const path = access.path.split('?')[0] ?? ''
    const blob = /\/blobs\/(sha\d+:[0-9a-f]+)$/.exec(path)?.[1] as Digest | undefined
    if (access.method === 'GET' && blob !== undefined && access.status < 300) {
      blobGets.set(blob, (blobGets.get(blob) ?? 0) + 1)
      continue
    }
    const what = blob ? 'a blob' : path.includes('/manifests/') ? 'a manifest' : path
    const label = `${access.method} of ${what}${access.status < 300 ? '' : `, status ${access.status}`}`
    others.set(label, (others.get(label) ?? 0) + 1)
  }
  return { blobGets, others }
}

/** All that the access log holds up to now: asks for something unmistakable, and reads until that is logged. */
export async function completeLog(
  url: string,
  lines: () => readonly string[],
  { signal }: { signal: AbortSignal },
): Promise<readonly string[]> {
  const mark = `/v2/?demo-${process.hrtime.bigint()}`
  const answer = await fetch(url + mark, { headers: { 'user-agent': OWN_AGENT }, signal })
  await answer.arrayBuffer()
  const until = withDeadline(signal, READY_MS)
  for (;;) {
    const all = lines()
    const at = all.findIndex((line) => line.includes(mark))
    if (at >= 0) return all.slice(0, at)
    if (until.aborted) {
      signal.throwIfAborted()
      throw new DarnerError('TIMED_OUT', `access log of ${url} never showed the request ${mark}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
