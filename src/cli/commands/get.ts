/** `darner get`: fetches a URL through the agent into a file, which appears under its name only whole and verified. */
import { type FileHandle, open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { DarnerError, systemCode } from '../../base/errors.ts'
import type { GetFrame, GetProgress, GetRequest, GetSummary } from '../../wire/get-stream.ts'
import { AgentClient } from '../client.ts'
import type { Action, CommandContext } from '../context.ts'

export const action: Action = async (args, options, context) => {
  const request = requestOf(args[0] ?? '', options)
  const target = String(options.output)
  const client = new AgentClient({ socket: context.socket })
  const { readGetStream } = await import('../../wire/get-stream.ts')
  const toStdout = target === '-'
  const body = { ...request, order: toStdout ? 'ordered' : 'landed' } satisfies GetRequest
  const answer = await client.open('POST', '/v1/get', { body, signal: context.signal })
  const frames = readGetStream(answer)
  const show = await display(args[0] ?? '', options, context)
  try {
    const bytes = Number(answer.headers['darner-bytes'])
    const summary = toStdout
      ? await intoStream(frames, context.stdout, show)
      : await intoFile(frames, target, bytes, show)
    show.done()
    report(summary, target, context, options)
    return 0
  } catch (error) {
    show.done()
    context.signal.throwIfAborted()
    throw error
  }
}

function requestOf(text: string, options: Record<string, unknown>): Omit<GetRequest, 'order'> {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new DarnerError('BAD_ARGUMENT', `${JSON.stringify(text)} is no http or https URL`)
  }
  const headers: Record<string, string> = {}
  let credential: GetRequest['credential']
  for (const line of (options.header as string[] | undefined) ?? []) {
    const at = line.indexOf(':')
    const name = line.slice(0, at).trim().toLowerCase()
    const value = line.slice(at + 1).trim()
    if (at < 1 || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name))
      throw new DarnerError('BAD_ARGUMENT', `header ${JSON.stringify(line)} is not NAME: VALUE`)
    if (name === 'authorization') credential = { kind: 'header', value }
    else headers[name] = value
  }
  if (url.username !== '') {
    credential ??= {
      kind: 'basic',
      username: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
    }
    url.username = ''
    url.password = ''
  }
  return {
    origin: { kind: 'url', url: url.href, ...(Object.keys(headers).length === 0 ? {} : { headers }) },
    priority: 'interactive',
    ...(typeof options.digest === 'string' ? { digest: options.digest } : {}),
    ...(credential === undefined ? {} : { credential }),
  }
}

interface Show {
  progress(body: GetProgress): void
  done(): void
}

/** A bar on a terminal; nothing anywhere else. */
async function display(label: string, options: Record<string, unknown>, context: CommandContext): Promise<Show> {
  if (!context.interactive || options.quiet === true || context.json) return { progress: () => {}, done: () => {} }
  const { ProgressDisplay, RateMeter } = await import('../progress.ts')
  const bar = new ProgressDisplay(context.stderr)
  const meter = new RateMeter()
  const name = basename(new URL(label).pathname) || label
  return {
    progress: ({ bytes, have, from }) =>
      bar.update([{ label: name, have, total: bytes, rate: meter.add(have, performance.now()), from }]),
    done: () => bar.done(),
  }
}

async function intoStream(frames: AsyncIterable<GetFrame>, out: Writable, show: Show): Promise<GetSummary> {
  return await consume(frames, show, async (_offset, bytes) => {
    if (!out.write(bytes)) await new Promise<void>((resolve) => out.once('drain', resolve))
  })
}

/** Writes beside the target, syncs, renames: the target is the old file or the new one, never part of one. */
async function intoFile(
  frames: AsyncIterable<GetFrame>,
  target: string,
  bytes: number,
  show: Show,
): Promise<GetSummary> {
  const path = resolve(target)
  const draft = join(dirname(path), `.${basename(path)}.darner-${process.pid}`)
  let file: FileHandle
  try {
    file = await open(draft, 'wx', 0o666)
  } catch (error) {
    throw new DarnerError('BAD_ARGUMENT', `cannot write ${target}: ${systemCode(error) ?? String(error)}`, {
      cause: error,
    })
  }
  try {
    try {
      if (bytes > 0) await file.truncate(bytes)
      const summary = await consume(frames, show, async (offset, chunk) => {
        for (let done = 0; done < chunk.byteLength; ) {
          const { bytesWritten } = await file.write(chunk, done, chunk.byteLength - done, offset + done)
          done += bytesWritten
        }
      })
      await file.close()
      await rename(draft, path)
      return summary
    } finally {
      await file.close()
    }
  } catch (error) {
    await unlink(draft).catch(() => {})
    const code = systemCode(error)
    if (error instanceof DarnerError || code === undefined) throw error
    throw new DarnerError(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'DISK_FULL' : 'COMMAND_FAILED',
      `cannot write ${target}: ${code}`,
      { cause: error },
    )
  }
}

async function consume(
  frames: AsyncIterable<GetFrame>,
  show: Show,
  data: (offset: number, bytes: Uint8Array) => Promise<void>,
): Promise<GetSummary> {
  for await (const frame of frames) {
    if (frame.kind === 'data') await data(frame.offset, frame.bytes)
    else if (frame.kind === 'progress') show.progress(frame.body)
    else if (frame.kind === 'summary') return frame.body
    else {
      const { errorOfBody } = await import('../client.ts')
      throw errorOfBody({ error: frame.body }, 200, 'get')
    }
  }
  throw new DarnerError('CLOSED', 'the agent ended the answer half way')
}

function report(summary: GetSummary, target: string, context: CommandContext, options: Record<string, unknown>): void {
  const { digest, bytes, seconds, from, pieces } = summary
  if (context.json) context.stdout.write(`${JSON.stringify({ digest, bytes, seconds, from, pieces })}\n`)
  else if (options.quiet !== true && target !== '-')
    context.stderr.write(`${digest} ${bytes} bytes in ${seconds.toFixed(2)} s: ${target}\n`)
}
