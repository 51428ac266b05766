/** `darner get`: brings a URL's content into a file, through the agent and its swarm where there is one. */

import type { GetSummary } from '../../api/get-frames.ts'
import { DarnerError } from '../../core/errors.ts'
import type { Action, CommandContext } from '../context.ts'
import { fetchOne } from '../get/fetch.ts'
import type { Order } from '../get/order.ts'
import { readWays } from '../get/read-options.ts'
import { openDisplay } from '../get/show.ts'
import { orderOf } from '../get/sources.ts'

export const action: Action = async (args, given, context) => {
  const text = args[0] ?? ''
  const options: Readonly<Record<string, unknown>> = { ...given, quiet: given.quiet === true || given.silent === true }
  if (given.continueAt !== undefined && given.continueAt !== '-')
    throw new DarnerError(
      'BAD_ARGUMENT',
      `-C ${String(given.continueAt).slice(0, 40)}: only -C - (go on where the file ends) is taken`,
      {
        way: 'use -r FIRST- for the bytes from there on',
      },
    )
  const ways = await readWays(options)
  if (options.recursive === true) {
    const { getTree } = await import('../get/tree.ts')
    return await getTree(text, options, ways, context)
  }
  const display = await openDisplay({ quiet: options.quiet === true }, context)
  try {
    const { summary, output } = await one(text, options)
    display.done()
    report(summary, output, options, context)
    return 0
  } catch (error) {
    display.done()
    context.signal.throwIfAborted()
    throw error
  }

  async function toldName(order: Order): Promise<string | undefined> {
    if (options.remoteName !== true)
      throw new DarnerError('BAD_ARGUMENT', '-J works only with -O: it takes the name from the answer')
    const { headerName } = await import('../get/header-name.ts')
    return await headerName(order, ways, context)
  }

  async function one(text: string, options: Record<string, unknown>): Promise<{ summary: GetSummary; output: string }> {
    if (/^file:/i.test(text)) {
      const url = new URL(text)
      const output = outputOf(options, url.pathname.split('/').at(-1) || undefined, text)
      const { fetchFile } = await import('../get/local-file.ts')
      const digest = typeof options.digest === 'string' ? options.digest : undefined
      return { summary: await fetchFile(url, output, ways, { digest, context }), output }
    }
    // a folder as output is refused before anything is asked
    if (options.remoteName !== true) outputOf(options, undefined, text)
    const order = await orderOf(text, options, context)
    const told = options.remoteHeaderName === true ? await toldName(order) : undefined
    const output = outputOf(options, told ?? order.name, order.title)
    return { summary: await fetchOne(order, output, ways, { context, display }), output }
  }
}

/** `-o`, or the name that the source has, in the folder where we are. Throws BAD_ARGUMENT. */
function outputOf(options: Readonly<Record<string, unknown>>, name: string | undefined, title: string): string {
  const { output, remoteName } = options
  if (typeof output === 'string' && output !== '') {
    if (remoteName === true) throw new DarnerError('BAD_ARGUMENT', '-o and -O both say where to write')
    return output
  }
  if (remoteName !== true)
    throw new DarnerError('BAD_ARGUMENT', 'no output is named', {
      way: 'use -o FILE, -o - for stdout, or -O for the name in the URL',
    })
  if (name === undefined || name === '.' || name === '..' || name.includes('/') || name.includes('\0'))
    throw new DarnerError('BAD_ARGUMENT', `${title} has no file name for -O`, { way: 'use -o FILE' })
  return name
}

function report(
  summary: GetSummary,
  output: string,
  options: Readonly<Record<string, unknown>>,
  { json, stdout, stderr }: CommandContext,
): void {
  const { digest, bytes, seconds, from, pieces } = summary
  // what goes to stdout is the content, and nothing else then
  if (json) (output === '-' ? stderr : stdout).write(`${JSON.stringify({ digest, bytes, seconds, from, pieces })}\n`)
  else if (options.quiet !== true && output !== '-')
    stderr.write(`${digest} ${bytes} bytes in ${seconds.toFixed(2)} s: ${output}\n`)
}
