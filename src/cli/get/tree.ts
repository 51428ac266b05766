/** `darner get --recursive`: all files that an index page names, or that lie below an s3 prefix, into a folder. */
import { lstat, mkdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { asDarnerError, DarnerError, errorLine, systemCode } from '../../core/errors.ts'
import type { CommandContext } from '../context.ts'
import { nameOf } from '../quick-parse.ts'
import { fetchOne } from './fetch.ts'
import { listPages } from './index-pages.ts'
import type { Listing, TreeLimits } from './leaf.ts'
import type { Ways } from './order.ts'
import { openDisplay } from './show.ts'
import { type Options, orderOf } from './sources.ts'

const CONCURRENT = 4

/** Resolves with the exit code: 1 when a file failed, after all others were tried. Throws what the listing throws. */
export async function getTree(text: string, options: Options, ways: Ways, context: CommandContext): Promise<number> {
  for (const flag of ['--digest', '--range', '--remote-name', '--remote-header-name'])
    if (options[nameOf(flag)] !== undefined)
      throw new DarnerError('BAD_ARGUMENT', `${flag} is for one file, and --recursive brings many`)
  if (typeof options.output !== 'string' || options.output === '-')
    throw new DarnerError('BAD_ARGUMENT', '--recursive writes to a folder', { way: 'name it with -o DIR' })
  const root = resolve(options.output)
  const limits = { files: Number(options.maxFiles ?? 1000), depth: Number(options.maxDepth ?? 5) }
  const { leaves, failed } = await listed(text, options, ways, limits, context)
  await mkdir(root, { recursive: true }).catch((error: unknown) => {
    const code = systemCode(error)
    throw new DarnerError(
      'BAD_ARGUMENT',
      `cannot write into ${root}: ${code === 'EEXIST' ? 'it is not a folder' : code}`,
      {
        cause: error,
      },
    )
  })
  const display = await openDisplay({ quiet: options.quiet === true }, context)
  const { default: PQueue } = await import('p-queue')
  const queue = new PQueue({ concurrency: CONCURRENT })
  const sum = { files: 0, failed: 0, bytes: 0, from: { origin: 0, supernode: 0, peers: 0 } }
  const started = performance.now()
  const fail = (path: string, error: unknown) => {
    sum.failed++
    context.stderr.write(
      `darner: ${errorLine(new DarnerError('ORIGIN_FAILED', `${path}: ${errorLine(asDarnerError(error, 'get'))}`))}\n`,
    )
  }
  for (const { path, error } of failed) fail(path, error)
  await Promise.all(
    leaves.map((leaf) =>
      queue.add(async () => {
        context.signal.throwIfAborted()
        const output = join(root, ...leaf.steps)
        try {
          await makeFolders(root, leaf.steps.slice(0, -1))
          const { bytes, digest, from } = await fetchOne(leaf.order, output, ways, {
            context,
            display,
            throughLinks: false,
          })
          sum.files++
          sum.bytes += bytes
          for (const source of ['origin', 'supernode', 'peers'] as const) sum.from[source] += from[source]
          if (context.json)
            context.stdout.write(`${JSON.stringify({ file: output, url: leaf.order.title, digest, bytes, from })}\n`)
        } catch (error) {
          context.signal.throwIfAborted()
          fail(leaf.steps.join('/'), error)
        }
      }),
    ),
  )
  display.done()
  const seconds = (performance.now() - started) / 1000
  if (context.json) context.stdout.write(`${JSON.stringify({ ...sum, seconds })}\n`)
  else if (options.quiet !== true)
    context.stderr.write(
      `${sum.files} of ${leaves.length} files, ${sum.bytes} bytes in ${seconds.toFixed(2)} s: ${root}\n`,
    )
  return sum.failed === 0 ? 0 : 1
}

async function listed(
  text: string,
  options: Options,
  ways: Ways,
  limits: TreeLimits,
  context: CommandContext,
): Promise<Listing> {
  if (/^s3:/i.test(text)) {
    const { listPrefix } = await import('./s3-list.ts')
    return await listPrefix(text, options, ways, limits, context)
  }
  const first = await orderOf(text, options, context)
  if (first.origin.kind !== 'url' || first.swarmOnly === true)
    throw new DarnerError(
      'BAD_ARGUMENT',
      `${first.title}: --recursive takes an http or https index page, or an s3 prefix`,
    )
  return await listPages(first, first.origin, ways, limits, context)
}

/** Makes the folders of a file, and goes through no link that lies in the way: it may lead out of the root. */
async function makeFolders(root: string, steps: readonly string[]): Promise<void> {
  let at = root
  for (const step of steps) {
    at = join(at, step)
    await mkdir(at).catch(() => {})
    if (!(await lstat(at)).isDirectory())
      throw new DarnerError('BAD_ARGUMENT', `cannot write into ${at}: it is not a folder`, {
        way: `move it away, or write elsewhere than ${dirname(at)}`,
      })
  }
}
