/** `darner cp`: copies files between a container and this host, or a tar on stdin or stdout. */
import { type ChildProcess, spawn } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { DarnerError, isDarnerError, systemCode } from '../../core/errors.ts'
import { put } from '../../core/outflow.ts'
import type { Action, CommandContext } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'

/** One side in a container. */
interface Inside {
  readonly container: string
  readonly path: string
}

export const action: Action = async ([from = '', to = ''], options, context) => {
  const [source, target] = [insideOf(from), insideOf(to)]
  if ((source === undefined) === (target === undefined))
    throw new DarnerError('BAD_ARGUMENT', 'cp: exactly one of the two is CONTAINER:PATH')
  const keep = options.archive === true
  if (source !== undefined) await copyOut(source, to, keep, context)
  if (target !== undefined) await copyIn(from, target, { keep, follow: options.followLink === true }, context)
  return 0
}

/** `NAME:PATH`; a path of this host begins with `/` or `.`. */
function insideOf(word: string): Inside | undefined {
  const [, container, path] = /^([^/.:][^:]*):(.*)$/s.exec(word) ?? []
  return container === undefined || path === undefined ? undefined : { container, path: path === '' ? '/' : path }
}

const route = ({ container }: Inside) => `/containers/${pathPart(container)}/archive`
/** A name within the two halves of a `s,…,…,S` of tar. */
const sought = (name: string) => name.replaceAll(/[\\,.*^$[\]]/g, '\\$&')
const replacing = (name: string) => name.replaceAll(/[\\&,]/g, '\\$&')

async function copyOut(source: Inside, to: string, keep: boolean, context: CommandContext): Promise<void> {
  const client = new DockerClient({ socket: context.socket })
  const { signal } = context
  const tar = await client.open('GET', route(source), { query: { path: source.path }, signal })
  if (to === '-') return await pipeline(tar, context.stdout, { end: false, signal })
  const facts = JSON.parse(
    Buffer.from(String(tar.headers['x-docker-container-path-stat'] ?? ''), 'base64').toString() || '{}',
  ) as { name?: string; mode?: number }
  const name = facts.name === '/' || facts.name === undefined ? '.' : facts.name
  const there = await kindOf(to)
  const owner = keep ? ['--same-owner'] : ['--no-same-owner']
  const isDir = Boolean((facts.mode ?? 0) & 0x8000_0000)
  const into = /\/\.$/.test(source.path) && there === 'dir' ? ['--strip-components=1', '-C', to] : undefined
  if (there === 'file' && isDir)
    throw new DarnerError('BAD_ARGUMENT', `cp: ${to} is a file, and ${source.path} is a folder`)
  const place =
    into ??
    (there === 'dir'
      ? ['-C', to]
      : [
          '-C',
          await parentOf(to),
          '--transform',
          `s,^${sought(name)}\\(/\\|$\\),${replacing(basename(resolve(to)))}\\1,S`,
        ])
  await feedTar(['-xpf', '-', ...owner, ...place], tar, signal)
}

async function copyIn(
  from: string,
  target: Inside,
  { keep, follow }: { keep: boolean; follow: boolean },
  context: CommandContext,
): Promise<void> {
  const client = new DockerClient({ socket: context.socket })
  const { signal } = context
  const send = (path: string, content: Readable) =>
    client.json('PUT', route(target), { query: { path }, content, signal })
  if (from === '-') {
    await send(target.path, context.stdin)
    return
  }
  const kind = await kindOf(from)
  if (kind === undefined) throw new DarnerError('BAD_ARGUMENT', `cp: ${from} does not exist on this host`)
  const inside = await kindInside(client, target, signal)
  const contents = kind === 'dir' && /(^|\/)\.$/.test(from)
  const whole = resolve(from)
  const asked = target.path.replace(/(.)\/+$/, '$1')
  const place = inside === 'dir' ? asked : dirname(asked)
  const name = inside === 'dir' && !contents ? basename(whole) : inside === 'dir' ? '.' : basename(asked)
  if (inside === undefined && /\/$/.test(target.path) && kind === 'file')
    throw new DarnerError('BAD_ARGUMENT', `cp: no such folder in the container: ${target.path}`)
  if (inside === 'file' && kind === 'dir')
    throw new DarnerError('BAD_ARGUMENT', `cp: ${target.path} is a file in the container, and ${from} a folder here`)
  const args = ['-cf', '-', '--format=pax', '--numeric-owner', ...(keep ? [] : ['--owner=0', '--group=0'])]
  const rename =
    kind === 'dir'
      ? ['-C', whole, '--transform', `s,^\\.,${replacing(name)},S`, '--', '.']
      : ['-C', dirname(whole), '--transform', `s,.*,${replacing(name)},S`, '--', basename(whole)]
  const child = runTar([...args, ...(follow ? ['-h'] : []), ...rename], signal)
  if (child.process.stdout === null) throw new DarnerError('INTERNAL', 'cp: tar without an output')
  await Promise.all([send(place, child.process.stdout), child.ended])
}

async function kindOf(path: string): Promise<'file' | 'dir' | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'dir' : 'file'
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined
    throw error
  }
}

async function parentOf(path: string): Promise<string> {
  const parent = dirname(resolve(path))
  if ((await kindOf(parent)) === 'dir') return parent
  throw new DarnerError('BAD_ARGUMENT', `cp: the folder ${parent} does not exist on this host`)
}

/** Links are followed: what matters is whether it can be gone into. */
async function kindInside(
  client: DockerClient,
  { container, path }: Inside,
  signal: AbortSignal,
): Promise<'file' | 'dir' | undefined> {
  try {
    const answer = await client.open('HEAD', `/containers/${pathPart(container)}/archive`, {
      query: { path: join(path, '.') === '/' ? '/' : path },
      signal,
    })
    answer.resume()
    const facts = JSON.parse(
      Buffer.from(String(answer.headers['x-docker-container-path-stat'] ?? ''), 'base64').toString() || '{}',
    ) as { mode?: number }
    return (facts.mode ?? 0) & 0x8000_0000 ? 'dir' : 'file'
  } catch (error) {
    // a HEAD's refusal has no text: the answer to what follows says which of the two isn't there
    if (isDarnerError(error, 'NOT_FOUND') || isDarnerError(error, 'INTERNAL')) return undefined
    throw error
  }
}

async function feedTar(args: readonly string[], tar: Readable, signal: AbortSignal): Promise<void> {
  const child = runTar(args, signal)
  const input = child.process.stdin
  if (input === null) throw new DarnerError('INTERNAL', 'cp: tar without an input')
  input.on('error', () => {}) // it has read all, or its own complaint says more
  const flow = async () => {
    // to the end also when tar needs no more of it: how the answer ends says whether that was all
    for await (const chunk of tar) await put(input, chunk as Uint8Array)
    input.end()
  }
  const flowing = flow().finally(() => input.destroy())
  flowing.catch(() => {})
  try {
    await child.ended
    await flowing
  } finally {
    tar.destroy()
  }
}

function runTar(args: readonly string[], signal: AbortSignal): { process: ChildProcess; ended: Promise<void> } {
  const child = spawn('tar', args, { stdio: ['pipe', 'pipe', 'pipe'], signal })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000)
  })
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (error) =>
      reject(
        signal.aborted
          ? signal.reason
          : new DarnerError(
              'RUNTIME_MISSING',
              `cp needs tar, which can't be run (${systemCode(error) ?? error.message})`,
            ),
      ),
    )
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new DarnerError('INTERNAL', `cp: tar ended with ${code}: ${said.trim()}`)),
    )
  })
  return { process: child, ended }
}
