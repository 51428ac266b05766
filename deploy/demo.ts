/**
 * What `npm run demo` does: brings what is missing, then an image from a registry through a swarm into containers, on hosts made
 * of namespaces. As root on Debian or Ubuntu all of it; elsewhere the part that works.
 */
import { mkdir, mkdtemp, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asDarnerError, EXIT, errorLine, isDarnerError } from '../src/base/errors.ts'
import { fabricProblem } from './demo/fabric.ts'
import { cachedImage, type DemoImage, fetchImage, makeImage } from './demo/image.ts'
import { demoOnLoopback } from './demo/loopback.ts'
import { demoOnStage, type StageOrder } from './demo/on-stage.ts'
import { type DemoOptions, readOptions, USAGE } from './demo/options.ts'
import { CACHE, LOGS } from './demo/places.ts'
import { ORDER, runOnStage, toldToStop } from './demo/stage-process.ts'
import { began, say } from './demo/story.ts'
import { isThere, setUp, TOOLS } from './setup.ts'

/** What the demo runs, by the program's name; either OCI runtime will do. */
const ALWAYS = ['conmon', 'docker-registry', 'ip', 'unshare', 'mount', 'dumb-init', 'mkfs.erofs']
const OVERLAYFS = 0x794c7630

async function main(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const options = readOptions(argv)
  if (options.help) {
    process.stdout.write(USAGE)
    return EXIT.done
  }
  await mkdir(CACHE, { recursive: true })
  await rm(LOGS, { recursive: true, force: true })
  await mkdir(LOGS)
  // containers need a disk below: overlayfs stacks on no overlayfs, and file systems in memory hold no EROFS image
  const folder = await mkdtemp(join((await isOverlay('/var/tmp')) ? tmpdir() : '/var/tmp', 'darner-demo-'))
  try {
    const problem = options.loopback ? undefined : await problemOf(options, signal)
    if (problem === undefined && !options.loopback) return await whole(options, folder, signal)
    if (problem !== undefined) process.stdout.write(oneScreen(problem))
    await demoOnLoopback({ folder, agents: options.agents, keep: options.keep }, { signal })
    return EXIT.done
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function whole(options: DemoOptions, folder: string, signal: AbortSignal): Promise<number> {
  const image = await imageOf(options, folder, signal)
  const { title, ours, layout } = image
  const { agents, keep } = options
  return await runOnStage({ folder, layout: layout.folder, title, ours, agents, keep, beganMs: began() }, { signal })
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
async function ends(
  work: (signal: AbortSignal) => Promise<number>,
  signal: AbortSignal,
  logs: boolean,
): Promise<number> {
  try {
    return await work(signal)
  } catch (error) {
    if (signal.aborted) return EXIT.interrupted
    process.stderr.write(`demo: ${errorLine(asDarnerError(error, 'demo'))}\n`)
    if (logs && !isDarnerError(error, 'BAD_ARGUMENT')) process.stderr.write(`demo: the daemons' logs are in ${LOGS}\n`)
    return asDarnerError(error, 'demo').facts.exit
  }
}

const order = process.env[ORDER]
if (order === undefined) {
  const ending = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (!ending.signal.aborted) process.stdout.write(`\n${name}: cleaning up\n`)
      ending.abort(new DOMException(name, 'AbortError'))
    })
  }
  process.exitCode = await ends((signal) => main(process.argv.slice(2), signal), ending.signal, true)
} else {
  delete process.env[ORDER]
  const signal = toldToStop()
  process.exitCode = await ends(
    async () => {
      await demoOnStage(JSON.parse(order) as StageOrder, { signal })
      return EXIT.done
    },
    signal,
    true,
  )
  process.stdin.destroy()
}
