/** Asks a place whether it would serve a content to an asker. Any 2xx won't do: it has to be an answer about that very content. */

import type { OriginPort, OriginTarget, Version } from '../core/contracts/origin.ts'
import { algorithmOf, type Digest, Digester } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import { type Credential, type Origin, originName } from '../core/task/origin.ts'

interface AskOptions {
  readonly credential?: Credential | undefined
  readonly signal: AbortSignal
}

/** Whether an answer is about the content: undefined where it doesn't say. */
export type Fits = (version: Version) => boolean | undefined

/** Of a blob, the length has to be right: "200 OK" without one may be the answer to a stranger. */
export function fitsBlob(bytes: number | undefined): Fits {
  return (version) => (bytes === undefined || version.bytes === undefined ? undefined : version.bytes === bytes)
}

/**
 * One HEAD with the asker's own credential, and the head of a GET where that says too little. Resolves with false where neither
 * says enough: then only the whole content would. Throws the refusal; ORIGIN_DENIED where the answer is about something else.
 */
export async function serves(
  port: OriginPort,
  target: OriginTarget,
  fits: Fits,
  { credential, signal }: AskOptions,
): Promise<boolean> {
  const head = fits(await port.stat(target, { credential, signal }))
  if (head === true) return true
  await using read = await port.read(target, { credential, signal })
  const got = fits(read)
  if (got !== false) return got === true
  throw new DarnerError(
    'ORIGIN_DENIED',
    `${originName(target.origin)} answered, with another content than ${target.digest ?? 'was read there'}`,
  )
}

/** Reads a blob at a place whole and lets the bytes go. Throws the refusal, DIGEST_MISMATCH. */
export async function servesWhole(
  stream: AsyncIterable<Uint8Array>,
  { origin, digest, bytes }: { origin: Origin; digest: Digest; bytes: number },
  note: (bytes: number) => void,
): Promise<void> {
  const digester = new Digester(algorithmOf(digest))
  for await (const chunk of stream) {
    note(chunk.byteLength)
    digester.update(chunk)
    if (digester.bytes > bytes) break
  }
  if (digester.bytes === bytes && digester.finish() === digest) return
  throw new DarnerError('DIGEST_MISMATCH', `${digest}: ${originName(origin)} served other bytes under this digest`)
}
