/** `darner storage init`: makes the pool that disk quotas come from, or grows it; fails unless its limits bite. */
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { text } from '../option-values.ts'
import { quotaOf } from '../rich-options.ts'
import { storageText } from '../storage-text.ts'

export const action: Action = async (_args, options, context) => {
  const { bytes } = quotaOf(text(options, 'size') ?? '')
  const view = await new EngineClient({ socket: context.socket }).initStorage(bytes, { signal: context.signal })
  context.stdout.write(context.json ? `${JSON.stringify(view)}\n` : storageText(view))
  return 0
}
