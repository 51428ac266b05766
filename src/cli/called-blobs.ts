/** Blobs by what people call them: a digest, the start of one, or an image of this host. */
import type { ImageList, ImageView } from '../api/images-api.ts'
import type { PeerStatus } from '../api/peer-status.ts'
import { DarnerError, isDarnerError } from '../core/errors.ts'
import { isTaskId } from '../core/task/task.ts'
import { formatReference, parseReference } from '../oci/reference.ts'
import { AgentClient, withEngine } from './client.ts'
import type { CommandContext } from './context.ts'

const SHORTEST_PREFIX = 3

/** A blob's digest, or `url:<64 hex>`, whole or its start. Throws NOT_FOUND, or BAD_ARGUMENT for the start of several. */
export async function calledBlob(text: string, { socket, signal }: CommandContext): Promise<string> {
  if (isTaskId(text)) return text
  const { tasks } = await new AgentClient({ socket }).json<PeerStatus>('GET', '/v1/peer', { signal })
  return theOne(
    text,
    tasks.map(({ task }) => task),
  )
}

/** The same, or all blobs of an image by its name or id: its config and layers. */
export async function calledBlobs(text: string, context: CommandContext): Promise<readonly string[]> {
  if (isTaskId(text)) return [text]
  const client = new AgentClient({ socket: context.socket })
  const list = await withEngine(client.json<ImageList>('GET', '/v1/images', { signal: context.signal }))
  const images = (list?.images ?? []).filter((image) => isCalled(image, text))
  const [image] = images
  if (images.length > 1)
    throw ambiguous(
      text,
      'images',
      images.map(({ id }) => id),
    )
  return image?.blobs ?? [await calledBlob(text, context)]
}

function isCalled({ id, manifest, tags, digests }: ImageView, text: string): boolean {
  if ([id, manifest].some((digest) => startsLike(digest, text))) return true
  try {
    return [...tags, ...digests].includes(formatReference(parseReference(text)))
  } catch (error) {
    if (isDarnerError(error, 'REFERENCE_INVALID')) return false
    throw error
  }
}

function theOne(text: string, known: readonly string[]): string {
  const found = known.filter((digest) => startsLike(digest, text))
  const [one] = found
  if (one === undefined)
    throw new DarnerError(
      'NOT_FOUND',
      `no blob or image of this host is called ${JSON.stringify(text.slice(0, 160))}`,
      {
        way: 'give the whole digest of a blob that is not here, sha256:<64 hex>',
      },
    )
  if (found.length > 1) throw ambiguous(text, 'blobs', found)
  return one
}

/** With `sha256:` or without. */
function startsLike(digest: string, text: string): boolean {
  const hex = text.slice(text.indexOf(':') + 1)
  if (hex.length < SHORTEST_PREFIX || !/^[a-f0-9]+$/.test(hex)) return false
  return digest.startsWith(text) || digest.slice(digest.indexOf(':') + 1).startsWith(text)
}

function ambiguous(text: string, what: string, found: readonly string[]): DarnerError {
  const some = found.slice(0, 3).join(', ')
  return new DarnerError(
    'BAD_ARGUMENT',
    `${text} is the start of several ${what}: ${some}${found.length > 3 ? ', …' : ''}`,
  )
}
