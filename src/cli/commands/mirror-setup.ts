/** `darner mirror setup`: prints, writes or takes back what points a container client of this host at the mirror. */
import { DarnerError } from '../../base/errors.ts'
import type { Action } from '../context.ts'
import { applyPlan, undoPlan } from '../mirror-setup/apply.ts'
import { containerd } from '../mirror-setup/containerd.ts'
import { docker } from '../mirror-setup/docker.ts'
import { CLIENTS, type ClientName, type ClientSetup } from '../mirror-setup/plan.ts'
import { containersSetup } from '../mirror-setup/podman.ts'
import { setupTarget } from '../mirror-setup/target.ts'

const SETUPS: Readonly<Record<ClientName, ClientSetup>> = {
  containerd,
  docker,
  podman: containersSetup('podman, skopeo and buildah read it at each command'),
  crio: containersSetup('reload cri-o to take it up: systemctl reload crio; podman and skopeo use the same file'),
}

export const action: Action = async (args, options, context) => {
  const client = args[0] as ClientName
  if (!CLIENTS.includes(client))
    throw new DarnerError('BAD_ARGUMENT', `client ${JSON.stringify(args[0])} is none of ${CLIENTS.join(', ')}`)
  if (options.apply === true && options.undo === true)
    throw new DarnerError('BAD_ARGUMENT', '--apply and --undo exclude each other')
  const { stdout, json } = context
  const setup = SETUPS[client]
  const root = typeof options.root === 'string' ? options.root : '/'
  if (options.undo === true) {
    const paths = await undoPlan(client, setup, { root })
    stdout.write(
      json ? `${JSON.stringify({ client, undone: paths })}\n` : paths.map((path) => `restored ${path}\n`).join(''),
    )
    return 0
  }
  const target = await setupTarget(options, context)
  const plan = await setup.plan(target)
  if (options.apply === true) {
    const paths = await applyPlan(client, plan, target)
    if (json) stdout.write(`${JSON.stringify({ client, mirror: target.mirror, written: paths, notes: plan.notes })}\n`)
    else {
      stdout.write(paths.length === 0 ? 'nothing to change\n' : paths.map((path) => `wrote ${path}\n`).join(''))
      for (const note of plan.notes) context.stderr.write(`note: ${note}\n`)
    }
    return 0
  }
  if (json) stdout.write(`${JSON.stringify({ client, mirror: target.mirror, ...plan })}\n`)
  else {
    for (const { path, before, after } of plan.edits)
      stdout.write(`# ${path}${before === undefined ? ' (new)' : before === after ? ' (as it is)' : ''}\n${after}\n`)
    for (const note of plan.notes) context.stderr.write(`note: ${note}\n`)
  }
  return 0
}
