/** An image's config, as a blob. */
import { DarnerError } from '../core/errors.ts'
import { type Descriptor, MAX_MANIFEST_BYTES } from './manifest.ts'

/** A blob that is being read; `whole` resolves once all of it is here and hashes to its digest. */
interface Opened<Summary> extends AsyncDisposable {
  read(options: { signal: AbortSignal }): AsyncIterable<Uint8Array>
  whole(options: { signal: AbortSignal }): Promise<Summary>
}

/**
 * The config that a manifest names, verified, and what the read reported. Throws LIMIT_EXCEEDED for one longer than a manifest may be, and
 * what `open` and its content do.
 */
export async function readConfig<Summary>(
  { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
  { name, open, signal }: { name: string; open: () => Promise<Opened<Summary>>; signal: AbortSignal },
): Promise<{ body: Uint8Array; summary: Summary }> {
  if (size > MAX_MANIFEST_BYTES)
    throw new DarnerError(
      'LIMIT_EXCEEDED',
      `${name}: its config ${digest} has ${size} bytes, more than ${MAX_MANIFEST_BYTES}`,
    )
  await using content = await open()
  const body = new Uint8Array(Buffer.concat(await Array.fromAsync(content.read({ signal }))))
  return { body, summary: await content.whole({ signal }) }
}
