/** `darner logout`: forgets what login kept for a registry. */
import type { Action } from '../context.ts'
import { changeAuths, HUB_KEY } from '../docker-config.ts'

export const action: Action = async ([server = HUB_KEY], _options, context) => {
  await changeAuths(context.env, (auths) => Object.fromEntries(Object.entries(auths).filter(([key]) => key !== server)))
  context.stdout.write(`Removed login credentials for ${server}\n`)
  return 0
}
