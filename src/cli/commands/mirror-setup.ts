/** `darner mirror setup`: prints, writes or takes back what points a container client of this host at the mirror. */
import { DarnerError, errorLine } from '../../core/errors.ts'
import type { Action } from '../context.ts'
import { applyPlan, undoPlan } from '../mirror-setup/apply.ts'
import { CLIENTS, type ClientName } from '../mirror-setup/client-names.ts'
import { SETUPS } from '../mirror-setup/clients.ts'
import type { SetupTarget } from '../mirror-setup/plan.ts'
import { rootOf, setupTarget } from '../mirror-setup/target.ts'

export const action: Action = async (args, options, context) => {
  const client = args[0] as ClientName
  if (!CLIENTS.includes(client))
    throw new DarnerError('BAD_ARGUMENT', `client ${JSON.stringify(args[0])} is not one of ${CLIENTS.join(', ')}`)
  if (options.apply === true && options.undo === true)
    throw new DarnerError('BAD_ARGUMENT', '--apply and --undo exclude each other')
  const { stdout, json } = context
  const setup = SETUPS[client]
  const root = rootOf(options)
  if (options.undo === true) {
    const { restored, kept } = await undoPlan(client, setup, { root })
    if (json) stdout.write(`${JSON.stringify({ client, undone: restored.map(({ path }) => path), kept })}\n`)
    else {
      for (const { path, removed } of restored) stdout.write(`${removed ? 'removed' : 'restored'} ${path}\n`)
      for (const one of kept) stdout.write(`${one.path} stays: ${one.client} reads it, too\n`)
    }
    return 0
  }
  const target = await setupTarget(options, context)
  const plan = await setup.plan(target)
  const [trouble] = target.troubles
  const guess = target.guessed
    ? [`no agent answers at ${context.socket}: taken to serve ${namesOf(target)} at ${target.mirror}`]
    : []
  if (options.apply === true) {
    if (trouble !== undefined) throw trouble
    const paths = await applyPlan(client, plan, target)
    const notes = [...plan.notes, ...guess]
    if (json) stdout.write(`${JSON.stringify({ client, mirror: target.mirror, written: paths, notes })}\n`)
    else {
      stdout.write(paths.length === 0 ? 'nothing to change\n' : paths.map((path) => `wrote ${path}\n`).join(''))
      for (const note of notes) context.stderr.write(`note: ${note}\n`)
    }
    return 0
  }
  const notes = [...plan.notes, ...guess, ...target.troubles.map(errorLine)]
  if (json) stdout.write(`${JSON.stringify({ client, mirror: target.mirror, ...plan, notes })}\n`)
  else {
    for (const { path, before, after } of plan.edits)
      stdout.write(`# ${path}${before === undefined ? ' (new)' : before === after ? ' (as it is)' : ''}\n${after}\n`)
    for (const note of notes) context.stderr.write(`note: ${note}\n`)
    const differs = plan.edits.some(({ before, after }) => before !== after)
    context.stderr.write(
      `note: nothing was written${differs ? `; darner mirror setup ${client} --apply writes it` : ''}\n`,
    )
  }
  return 0
}

function namesOf({ upstreams }: SetupTarget): string {
  return upstreams.map(({ name }) => name).join(', ')
}
