/** `darner upgrade`: gives containers another image and keeps all else; one by name, or many by label. */

import type { ContainerView } from '../../api/containers-api.ts'
import type { UpgradePlan, UpgradeReply, UpgradeRequest } from '../../api/upgrade-api.ts'
import { formatBytes } from '../../core/config/units.ts'
import { DarnerError, EXIT, errorLine } from '../../core/errors.ts'
import { AgentClient } from '../client.ts'
import type { Action, CommandContext } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { inBatches } from '../in-batches.ts'
import { text, texts, whole } from '../option-values.ts'

export const action: Action = async (args, options, context) => {
  const labels = [...texts(options, 'label'), ...texts(options, 'filter').map(labelOf)]
  const many = labels.length > 0
  const [container, image] = many ? [undefined, args[0]] : args
  if (image === undefined || (many && args.length > 1)) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      many ? 'with --label or --filter, upgrade takes only an image' : 'upgrade: no image was named',
      {
        way: 'darner upgrade CONTAINER IMAGE, or darner upgrade --label KEY=VALUE IMAGE',
      },
    )
  }
  const request = requestOf(image, options)
  if (options.pull !== false) await bring(image, options, context)
  const names = many ? await namesWith(labels, context) : [container ?? '']
  const client = new AgentClient({ socket: context.socket })
  const { done, failed, left } = await inBatches(
    names,
    { atOnce: whole(options, 'batch') ?? 1, mostFailures: whole(options, 'maxFailures') ?? 0 },
    (name) =>
      client.json<UpgradeReply>('POST', `/v1/containers/${encodeURIComponent(name)}/upgrade`, {
        body: request,
        signal: context.signal,
      }),
  )
  context.signal.throwIfAborted()
  const [only] = failed
  if (!many && only) throw only.error
  const replies = done.map((one) => one.value)
  if (context.json) context.stdout.write(`${JSON.stringify(many ? replies : replies[0])}\n`)
  else for (const reply of replies) context.stdout.write(textOf(reply))
  for (const { error } of failed) context.stderr.write(`darner: ${errorLine(error)}\n`)
  if (left.length > 0) context.stderr.write(`darner: not begun after ${failed.length} failures: ${left.join(', ')}\n`)
  return failed.length > 0 ? EXIT.failed : EXIT.done
}

function requestOf(image: string, options: Readonly<Record<string, unknown>>): UpgradeRequest {
  const { keepUpper, freshUpper } = options
  const merge = texts(options, 'merge')
  if ([keepUpper === true, freshUpper === true, merge.length > 0].filter(Boolean).length > 1)
    throw new DarnerError('BAD_ARGUMENT', 'upgrade: --keep-upper, --fresh-upper and --merge exclude each other')
  const bad = merge.find((path) => !path.startsWith('/'))
  if (bad !== undefined) throw new DarnerError('BAD_ARGUMENT', `upgrade: --merge ${bad} is not absolute`)
  const healthTimeoutMs = whole(options, 'healthTimeout')
  const keepMs = whole(options, 'keepFor')
  return {
    image,
    ...(keepUpper === true ? { upper: 'keep' as const } : freshUpper === true ? { upper: 'fresh' as const } : {}),
    ...(merge.length > 0 ? { merge } : {}),
    ...(healthTimeoutMs === undefined ? {} : { healthTimeoutMs }),
    ...(keepMs === undefined ? {} : { keepMs }),
    ...(options.dryRun === true ? { dryRun: true } : {}),
  }
}

/** Everything of the image is on this host before anything stops. */
async function bring(
  image: string,
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<void> {
  const { credentialOf, followPull } = await import('../pull-progress.ts')
  const platform = text(options, 'platform')
  const pull = {
    reference: image,
    ...(options.plainHttp === true ? { plainHttp: true } : {}),
    ...(platform === undefined ? {} : { platform }),
    ...(await credentialOf(image, context)),
  }
  await followPull(pull, context, { quiet: options.quiet === true })
}

function labelOf(filter: string): string {
  if (filter.startsWith('label=')) return filter.slice('label='.length)
  throw new DarnerError('BAD_ARGUMENT', `upgrade: --filter ${filter} is not label=KEY or label=KEY=VALUE`)
}

/** Names of the containers that have all labels, stopped ones too. Throws NOT_FOUND. */
async function namesWith(labels: readonly string[], context: CommandContext): Promise<string[]> {
  const all = await new EngineClient({ socket: context.socket }).list({ all: true, signal: context.signal })
  const found = all.filter((one) => labels.every((label) => hasLabel(one, label))).map((one) => one.name)
  if (found.length > 0) return found.sort()
  throw new DarnerError('NOT_FOUND', `upgrade: no container has the label ${labels.join(' and ')}`)
}

function hasLabel({ request }: ContainerView, label: string): boolean {
  const at = label.indexOf('=')
  const value = request.labels?.[at < 0 ? label : label.slice(0, at)]
  return value !== undefined && (at < 0 || value === label.slice(at + 1))
}

function textOf({ name, plan, done, previous }: UpgradeReply): string {
  if (plan) return planText(name, plan)
  const down = done?.downMs === undefined ? '' : `, down ${Math.round(done.downMs)} ms`
  const until = previous ? `; darner rollback ${name} until ${new Date(previous.until).toISOString()}` : ''
  return `${name}: ${done?.from.image} -> ${done?.to.image}${down}${until}\n`
}

function planText(name: string, { from, to, upper, truncated, counts, keptBytes, mounts }: UpgradePlan): string {
  const rows = upper.map(
    ({ path, verdict, kind }) => `${verdict.padEnd(6)}  ${path}${kind === 'directory' ? '/' : ''}\n`,
  )
  const sums = Object.entries(counts).map(([verdict, count]) => `${verdict} ${count}`)
  const more = truncated ? `… and more: only the first ${upper.length} are listed\n` : ''
  const stays = mounts.length > 0 ? `; as they are: ${mounts.join(', ')}` : ''
  const sum = sums.length > 0 ? sums.join(', ') : 'nothing of the writable layer'
  return `${name}: ${from.image} -> ${to.image}\n${rows.join('')}${more}${sum}; ${formatBytes(keptBytes)} to copy${stays}\n`
}
