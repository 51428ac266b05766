/**
 * What `npm run demo` does: brings what is missing, then an image from a registry through a swarm into containers, on hosts made
 * of namespaces. As root on Debian or Ubuntu all of it; elsewhere the part that works.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asDarnerError, DarnerError, EXIT, errorLine, systemCode } from '../src/core/errors.ts'
import { fabricProblem } from './demo/fabric.ts'
import { cachedImage, type DemoImage, fetchImage, makeImage } from './demo/image.ts'
import { demoOnLoopback } from './demo/loopback.ts'
import { demoOnStage, type StageOrder } from './demo/on-stage.ts'
import { type DemoOptions, readOptions, USAGE } from './demo/options.ts'
import { CACHE } from './demo/places.ts'
import { ORDER, runOnStage, toldToStop } from './demo/stage-process.ts'
import { began, say } from './demo/story.ts'
import { isThere, setUp, TOOLS } from './setup.ts'

/** What the demo runs, by the program's name; either OCI runtime will do. */
const ALWAYS = ['conmon', 'docker-registry', 'ip', 'unshare', 'mount', 'dumb-init']
const OVERLAYFS = 0x794c7630

async function main(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const options = readOptions(argv)
  if (options.help) {
    process.stdout.write(USAGE)
    return EXIT.done
  }
  // containers need a disk below: overlayfs stacks on no overlayfs, and file systems in memory hold no EROFS image
  const folder = await mkdtemp(join((await isOverlay('/var/tmp')) ? tmpdir() : '/var/tmp', 'darner-demo-'))
  const logs = await logFolder(folder)
  try {
    const problem = options.loopback ? undefined : await problemOf(options, signal)
    if (problem === undefined && !options.loopback) return await whole(options, { folder, logs }, signal)
    if (problem !== undefined) process.stdout.write(oneScreen(problem))
    await demoOnLoopback({ folder, logs, agents: options.agents, keep: options.keep }, { signal })
    return EXIT.done
  } catch (error) {
    if (!signal.aborted) await tellLogs(logs)
    throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

interface Folders {
  readonly folder: string
  readonly logs: string
}

/** Where logs stay after the end; the demo's own folder, which doesn't, for who may not write to the checkout. */
async function logFolder(folder: string): Promise<string> {
  for (const logs of [join(CACHE, 'logs'), join(folder, 'logs')]) {
    try {
      await rm(logs, { recursive: true, force: true })
      await mkdir(logs, { recursive: true })
      return logs
    } catch (error) {
      const code = systemCode(error)
      if (code !== 'EACCES' && code !== 'EROFS' && code !== 'EPERM') throw error
    }
  }
  throw new DarnerError('HOST_UNABLE', `cannot write to ${folder}`)
}

/** Says where the logs are, and the last line of each. */
async function tellLogs(logs: string): Promise<void> {
  for (const name of (await readdir(logs)).sort()) {
    const last = (await readFile(join(logs, name), 'utf8')).trim().split('\n').at(-1) ?? ''
    process.stderr.write(`${join(logs, name)}: … ${last.slice(0, 300)}\n`)
  }
}

async function whole(options: DemoOptions, folders: Folders, signal: AbortSignal): Promise<number> {
  const { title, ours, layout } = await imageOf(options, folders.folder, signal)
  const { agents, keep } = options
  const order: StageOrder = { ...folders, layout: layout.folder, title, ours, agents, keep, beganMs: began() }
  const code = await runOnStage(order, { signal })
  if (code !== EXIT.done) await tellLogs(folders.logs)
  return code
}

async function imageOf(options: DemoOptions, folder: string, signal: AbortSignal): Promise<DemoImage> {
  const work = { work: folder, say, signal }
  if (options.image !== undefined) return await fetchImage(options.image, options.plainHttp, work)
  const cached = options.fresh ? undefined : await cachedImage()
  if (cached === undefined) return await makeImage(work)
  say(`${cached.title}: cached`)
  return cached
}

/** Installs what is missing; what still keeps the whole demo from running, a line each. */
async function problemOf(options: DemoOptions, signal: AbortSignal): Promise<string[] | undefined> {
  if (process.platform !== 'linux') return [`containers need Linux; this is ${process.platform}`]
  const runtimes = isThere('runc') || isThere('crun') ? [] : ['runc', 'crun']
  const image =
    options.image !== undefined
      ? ['skopeo']
      : options.fresh || !(await cachedImage().catch(() => undefined))
        ? ['debootstrap']
        : []
  const names = [...ALWAYS, ...runtimes, ...image]
  const wanted = TOOLS.filter(({ program }) => names.includes(program))
  const { installed, missing, reason } = await setUp(wanted, { say, signal })
  if (installed.length > 0) say(`installed ${installed.map(({ debian }) => debian).join(', ')}`)
  const lines = missing
    .filter(({ program }) => !(runtimes.includes(program) && (isThere('runc') || isThere('crun'))))
    .map(({ debian, why }) => `${debian}: ${why}`)
  if (lines.length > 0) lines.push(`(not installed: ${reason})`)
  if (process.geteuid?.() !== 0) lines.unshift('root: namespaces, mounts and containers need it')
  if (lines.length > 0) return lines
  const fabric = await fabricProblem({ signal })
  return fabric === undefined ? undefined : [`network namespaces and mounts of its own: ${fabric}`]
}

function oneScreen(problem: readonly string[]): string {
  return [
    '',
    'The whole demo can not run here. It misses:',
    '',
    ...problem.map((line) => `  ${line}`),
    '',
    'So this is the part that works without: the swarm on loopback, no containers.',
    '',
    '',
  ].join('\n')
}

async function isOverlay(path: string): Promise<boolean> {
  return await statfs(path).then(
    ({ type }) => type === OVERLAYFS,
    () => true, // not there
  )
}

/** Runs to the end; prints what failed. */
async function ends(work: () => Promise<number>, signal: AbortSignal): Promise<number> {
  try {
    return await work()
  } catch (error) {
    if (signal.aborted) return EXIT.interrupted
    const known = asDarnerError(error, 'demo')
    process.stderr.write(`demo: ${errorLine(known)}\n`)
    return known.facts.exit
  }
}

async function asWhole(): Promise<number> {
  const ending = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (!ending.signal.aborted) process.stdout.write(`\n${name}: cleaning up\n`)
      ending.abort(new DOMException(name, 'AbortError'))
    })
  }
  // nobody reads any more, as with `| head`: an end like any other
  process.stdout.on('error', (error) => ending.abort(error))
  return await ends(() => main(process.argv.slice(2), ending.signal), ending.signal)
}

/** The part on the stage. Its folder goes with it even when the process that began the demo is gone. */
async function asStagePart(order: StageOrder): Promise<number> {
  const signal = toldToStop()
  try {
    return await ends(async () => {
      await demoOnStage(order, { signal })
      return EXIT.done
    }, signal)
  } finally {
    if (signal.aborted) await rm(order.folder, { recursive: true, force: true })
    process.stdin.destroy()
  }
}

const order = process.env[ORDER]
delete process.env[ORDER] // not for what it starts
process.exitCode = order === undefined ? await asWhole() : await asStagePart(JSON.parse(order) as StageOrder)
