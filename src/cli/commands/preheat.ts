/** `darner preheat`: brings an image's blobs to many hosts before anybody asks for them. */

import { formatBytes, parseRate } from '../../core/config/units.ts'
import { DarnerError, EXIT } from '../../core/errors.ts'
import type { PreheatState } from '../../protocol/preheat.ts'
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { credentialOf } from '../pull-progress.ts'

const DEADLINE_MS = 10 * 60_000

export const action: Action = async (args, options, context) => {
  const reference = args[0] ?? ''
  const body = {
    reference,
    to: typeof options.to === 'string' ? options.to : 'all',
    deadlineMs: typeof options.deadline === 'number' ? options.deadline : DEADLINE_MS,
    ...(typeof options.rate === 'string' ? { bytesPerSec: rateOf(options.rate) } : {}),
    ...(options.plainHttp === true ? { plainHttp: true } : {}),
    ...(typeof options.platform === 'string' ? { platform: options.platform } : {}),
    ...(await credentialOf(reference, context)),
  }
  const client = new AgentClient({ socket: context.socket })
  let last: PreheatState | undefined
  for await (const state of client.lines<PreheatState>('POST', '/v1/preheat', { body, signal: context.signal })) {
    last = state
    if (context.interactive && options.quiet !== true && !context.json)
      context.stderr.write(
        `\r${state.ready} of ${state.hosts} hosts ready, ${formatBytes(state.have)} of ${formatBytes(state.bytes)}  `,
      )
  }
  if (context.interactive && options.quiet !== true && !context.json) context.stderr.write('\n')
  if (last === undefined || last.state === 'running')
    throw new DarnerError('AGENT_UNREACHABLE', `preheat ${reference}: the agent broke off its answer`)
  if (context.json) context.stdout.write(`${JSON.stringify(last)}\n`)
  else context.stdout.write(`${last.ready} of ${last.hosts} hosts hold ${reference}\n`)
  for (const { host, why } of last.failures) context.stderr.write(`${host}: ${why}\n`)
  if (last.state === 'done') return EXIT.done
  if (last.state === 'late') return EXIT.timedOut
  return EXIT.failed
}

const LEAST_RATE = 1024

function rateOf(text: string): number {
  const bytesPerSec = parseRate(text)
  if (bytesPerSec !== undefined && bytesPerSec >= LEAST_RATE) return bytesPerSec
  throw new DarnerError(
    'BAD_ARGUMENT',
    `--rate ${text.slice(0, 40)}: expected a rate of at least 1K, such as 500K or 20MiB/s`,
  )
}
