/**
 * A layer comes from its blob. A caller that names a DiffID, and can't give a blob that unpacks to it, gets nothing that is here under it.
 */

import type { Snapshotter, UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { algorithmOf, type Digest, Digester } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { decompress } from './decompress.ts'

/**
 * Unpacks a layer from its blob. If the layer is here already, the blob is read to its end all the same, to see that it unpacks to that.
 * `read` gives the blob's bytes from the start, each time. Throws as `Snapshotter.unpack`, and what reading throws.
 */
export async function unpackProven(
  snapshotter: Pick<Snapshotter, 'unpack'>,
  diffId: Digest,
  read: () => AsyncIterable<Uint8Array>,
  options: { limits: UnpackLimits; signal: AbortSignal },
): Promise<void> {
  let whole = false
  const watched = async function* () {
    yield* read()
    whole = true
  }
  await snapshotter.unpack(diffId, watched(), options)
  if (whole) return
  const digester = new Digester(algorithmOf(diffId))
  for await (const chunk of decompress(read(), { lend: true, signal: options.signal })) {
    digester.update(chunk)
    if (digester.bytes > options.limits.bytes)
      throw new DarnerError('LIMIT_EXCEEDED', `layer ${diffId}: its tar has more than ${options.limits.bytes} bytes`)
  }
  const got = digester.finish()
  if (got !== diffId)
    throw new DarnerError('DIGEST_MISMATCH', `layer ${diffId}: the blob that is named for it unpacks to ${got}`)
}
