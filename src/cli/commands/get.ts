/** `darner get`: fetches a URL through the agent into a file, which appears under its name only whole and verified. */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { type FileHandle, open, rename, stat, unlink } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { basename, dirname, join, resolve } from 'node:path'
import { DarnerError, systemCode } from '../../base/errors.ts'
import { abortable } from '../../base/signals.ts'
import {
  GET_FILE_HEADER,
  GET_FILE_ID_HEADER,
  type GetFrame,
  type GetProgress,
  type GetSummary,
  readGetStream,
} from '../../wire/get-frames.ts'
import type { GetRequest } from '../../wire/get-stream.ts'
import { AgentClient } from '../client.ts'
import type { Action, CommandContext } from '../context.ts'

export const action: Action = async (args, options, context) => {
  const request = requestOf(args[0] ?? '', options)
  const target = String(options.output)
  const toStdout = target === '-'
  if (!toStdout && (await stat(target).catch(() => undefined))?.isDirectory()) {
    throw new DarnerError('BAD_ARGUMENT', `cannot write ${target}: it is a directory`, { way: 'name a file in it' })
  }
  using source = await ask({ ...request, order: toStdout ? 'ordered' : 'landed' }, context)
  const show = await display(args[0] ?? '', options, context)
  try {
    const summary = toStdout
      ? await intoStream(readGetStream(source.answer), context, show)
      : await intoFile(source, target, show)
    show.done()
    report(summary, target, context, options)
    return 0
  } catch (error) {
    show.done()
    context.signal.throwIfAborted()
    throw error
  }
}

/** An answer, and the store's file when its bytes are to be taken from there. */
interface Source extends Disposable {
  readonly answer: IncomingMessage
  readonly fd: number | undefined
}

/**
 * Asks for the blob: by file where this process can open the agent's (it runs as root, or as the agent does, and sees the same
 * files), so that the bytes need not go through the socket; else by bytes.
 */
async function ask(body: GetRequest, context: CommandContext): Promise<Source> {
  const client = new AgentClient({ socket: context.socket })
  const open = (more: Partial<GetRequest>) =>
    client.open('POST', '/v1/get', { body: { ...body, ...more }, signal: context.signal })
  const first = await open(body.order === 'landed' && process.geteuid?.() === 0 ? { byFile: true } : {})
  if (first.headers[GET_FILE_HEADER] === undefined)
    return { answer: first, fd: undefined, [Symbol.dispose]: () => first.destroy() }
  const fd = openSame(String(first.headers[GET_FILE_HEADER]), String(first.headers[GET_FILE_ID_HEADER]))
  if (fd !== undefined) {
    return {
      answer: first,
      fd,
      [Symbol.dispose]: () => {
        closeSync(fd)
        first.destroy()
      },
    }
  }
  // another mount namespace, or the file got its final name just now: the first answer is held until the second is here
  const second = await open({})
  first.destroy()
  return { answer: second, fd: undefined, [Symbol.dispose]: () => second.destroy() }
}

/** Opens the file that the agent means; undefined when there is none here, or another. */
function openSame(path: string, id: string): number | undefined {
  try {
    const fd = openSync(decodeURIComponent(path), 'r')
    const { dev, ino } = fstatSync(fd)
    if (`${dev}:${ino}` === id) return fd
    closeSync(fd)
  } catch {
    // ENOENT, EACCES: it can't be opened from here
  }
  return undefined
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

/** Writes to stdout, no faster than it is read; ends with the signal, which also comes when nobody reads any more. */
async function intoStream(frames: AsyncIterable<GetFrame>, context: CommandContext, show: Show): Promise<GetSummary> {
  const { stdout, signal } = context
  return await consume(frames, show, async (_offset, bytes) => {
    if (!stdout.write(bytes)) await abortable(new Promise<void>((resolve) => stdout.once('drain', resolve)), signal)
  })
}

/** Writes beside the target, then renames: the target is the old file or the new one, never part of one. */
async function intoFile(source: Source, target: string, show: Show): Promise<GetSummary> {
  const bytes = Number(source.answer.headers['darner-bytes'])
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
      const { fd } = source
      const copy = fd === undefined ? undefined : copier(fd, file.fd)
      const data = (offset: number, chunk: Uint8Array) => writeAt(file.fd, chunk, offset)
      const summary = await consume(readGetStream(source.answer), show, data, copy)
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

const COPY_BYTES = 1024 * 1024

/** Copies ranges from one file to another through one buffer: this process does nothing else, so it may wait for the disk. */
function copier(from: number, to: number): (offset: number, length: number) => void {
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES)
  return (offset, length) => {
    for (let at = offset; at < offset + length; ) {
      const got = readSync(from, buffer, 0, Math.min(buffer.byteLength, offset + length - at), at)
      if (got === 0) throw new DarnerError('STORE_CORRUPT', `the agent's file ends at ${at}`)
      writeAt(to, buffer.subarray(0, got), at)
      at += got
    }
  }
}

function writeAt(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.byteLength; )
    done += writeSync(fd, bytes, done, bytes.byteLength - done, offset + done)
}

async function consume(
  frames: AsyncIterable<GetFrame>,
  show: Show,
  data: (offset: number, bytes: Uint8Array) => Promise<void> | void,
  copy?: (offset: number, length: number) => void,
): Promise<GetSummary> {
  for await (const frame of frames) {
    if (frame.kind === 'data') await data(frame.offset, frame.bytes)
    else if (frame.kind === 'landed') copy?.(frame.offset, frame.length)
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
