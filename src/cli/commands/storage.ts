/** `darner storage`: how disk quotas are enforced on this host. */
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { storageText } from '../storage-text.ts'

export const action: Action = async (_args, _options, context) => {
  const view = await new EngineClient({ socket: context.socket }).storage({ signal: context.signal })
  context.stdout.write(context.json ? `${JSON.stringify(view)}\n` : storageText(view))
  return 0
}
