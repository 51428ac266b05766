/** `file://`: this process opens it, with the rights of its user; no daemon ever reads a path for somebody. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { GetSummary } from '../../api/get-frames.ts'
import { algorithmOf, Digester, parseDigest } from '../../core/digest.ts'
import { DarnerError, systemCode } from '../../core/errors.ts'
import { partOf } from '../../core/task/part.ts'
import type { CommandContext } from '../context.ts'
import { openTarget } from './open-target.ts'
import type { Ways } from './order.ts'
import { paced } from './paced.ts'

/** Throws BAD_ARGUMENT, NOT_FOUND, DIGEST_MISMATCH. */
export async function fetchFile(
  url: URL,
  output: string,
  ways: Ways,
  { digest, context }: { digest: string | undefined; context: CommandContext },
): Promise<GetSummary> {
  const started = performance.now()
  if (url.hostname !== '' && url.hostname !== 'localhost')
    throw new DarnerError('BAD_ARGUMENT', `${url.href}: a file of another host, ${url.hostname}`)
  const path = fileURLToPath(new URL(`file://${url.pathname}`))
  const seen = await stat(path).catch((error: unknown) => {
    const code = systemCode(error)
    throw new DarnerError(code === 'ENOENT' ? 'NOT_FOUND' : 'BAD_ARGUMENT', `${path}: it cannot be read (${code})`, {
      cause: error,
    })
  })
  if (seen.isDirectory()) throw new DarnerError('BAD_ARGUMENT', `${path}: it is a directory`)
  const wanted = digest === undefined ? undefined : parseDigest(digest)
  if (wanted !== undefined && ways.range !== undefined)
    throw new DarnerError('BAD_ARGUMENT', `${path}: a part can't be checked against the digest of the whole`)
  const part = ways.range === undefined ? undefined : partOf(ways.range, seen.size, path)
  const digester = new Digester(wanted === undefined ? 'sha256' : algorithmOf(wanted))
  await using target = await openTarget(output, context)
  await target.restart()
  const stream = createReadStream(path, part && { start: part.from, end: part.to - 1 })
  try {
    for await (const bytes of paced(stream, ways.rateBytesPerSec, context.signal)) {
      context.signal.throwIfAborted()
      digester.update(bytes)
      await target.write(bytes)
    }
  } catch (error) {
    const code = systemCode(error)
    if (error instanceof DarnerError || code === undefined) throw error
    throw new DarnerError('BAD_ARGUMENT', `${path}: it cannot be read (${code})`, { cause: error })
  }
  const { bytes } = digester
  const got = digester.finish()
  if (wanted !== undefined && got !== wanted)
    throw new DarnerError('DIGEST_MISMATCH', `${path}: ${wanted} was asked for, its ${bytes} bytes hash to ${got}`)
  await target.finish({ mtimeMs: ways.remoteTime ? seen.mtimeMs : undefined })
  const seconds = (performance.now() - started) / 1000
  return { digest: got, bytes, seconds, from: { origin: bytes, supernode: 0, peers: 0 }, pieces: 0 }
}
