/** `darner mirror`: whether the registry mirror of this host's agent serves, where, and what it reaches. */
import { DarnerError } from '../../base/errors.ts'
import { formatBytes } from '../../config/units.ts'
import type { Action } from '../context.ts'
import { mirrorState } from '../mirror-setup/target.ts'

export const action: Action = async (_args, _options, context) => {
  const state = await mirrorState(context)
  if (context.json) context.stdout.write(`${JSON.stringify(state)}\n`)
  if (state.state === 'failed') throw new DarnerError('HOST_UNABLE', state.trouble ?? 'the mirror is off')
  if (context.json) return 0
  const lines =
    state.state === 'off'
      ? ['mirror     off']
      : [
          `mirror     ${state.scheme ?? 'http'}://${state.address}`,
          ...(state.authority === undefined ? [] : [`authority  ${state.authority}`]),
          ...(state.connect === undefined || state.connect === 'off' ? [] : [`connect    ${state.connect}`]),
          ...(state.upstreams ?? []).map(
            ({ name, url }, at) => `upstream   ${name} ${url}${at === 0 ? ' (default)' : ''}`,
          ),
          `served     ${state.requests} requests, ${state.failures} failed, ${formatBytes(state.bytes ?? 0)}`,
        ]
  context.stdout.write(`${lines.join('\n')}\n`)
  return 0
}
