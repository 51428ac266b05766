/** Archives to a file or a pipe, and from one. */
import { createReadStream, createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { DarnerError, systemCode } from '../core/errors.ts'
import type { CommandContext } from './context.ts'

/**
 * Writes an answer to `path`, whole or not at all; without one, to stdout, unless that is a terminal. Throws BAD_ARGUMENT,
 * HOST_UNABLE, AGENT_UNREACHABLE when the answer breaks off.
 */
export async function saveTo(
  path: string | undefined,
  { stdout, signal }: CommandContext,
  ask: () => Promise<Readable>,
): Promise<void> {
  if (path === undefined || path === '-') {
    if (path === undefined && (stdout as { isTTY?: boolean }).isTTY === true)
      throw new DarnerError('BAD_ARGUMENT', 'an archive is not written to a terminal', { way: 'name a file with -o' })
    await flow(await ask(), stdout, { end: false, signal })
    return
  }
  const draft = `${path}.${process.pid}.part`
  try {
    await flow(await ask(), createWriteStream(draft, { flags: 'wx', flush: true }), { signal })
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    const code = systemCode(error)
    if (code === undefined || signal.aborted || error instanceof DarnerError) throw error
    throw new DarnerError('HOST_UNABLE', `cannot write ${path}: ${code}`, { cause: error })
  }
}

async function flow(answer: Readable, to: Writable, options: { end?: boolean; signal: AbortSignal }): Promise<void> {
  try {
    await pipeline(answer, to, options)
  } catch (error) {
    if (systemCode(error) !== 'ECONNRESET') throw error
    throw new DarnerError('AGENT_UNREACHABLE', 'the agent broke off the archive', {
      cause: error,
      way: "the agent's log has the reason",
    })
  }
}

/** The bytes of a file, or of stdin for `-`. Throws BAD_ARGUMENT for a file that can't be read, or a terminal. */
export async function readFrom(path: string, { stdin }: CommandContext): Promise<Readable> {
  if (path === '-') {
    if ((stdin as { isTTY?: boolean }).isTTY === true)
      throw new DarnerError('BAD_ARGUMENT', 'no archive is given: standard input is a terminal', {
        way: 'name a file, or pipe one in',
      })
    return stdin
  }
  const file = createReadStream(path, { highWaterMark: 256 * 1024 })
  await new Promise<void>((resolve, reject) => {
    file.once('open', () => resolve())
    file.once('error', (error) =>
      reject(new DarnerError('BAD_ARGUMENT', `cannot read ${path}: ${systemCode(error) ?? error.message}`)),
    )
  })
  return file
}
