/** Commands on the room that disk quotas come from. */
import { type CommandRow, JSON_OPTION } from './shape.ts'

export const STORAGE: readonly CommandRow[] = [
  { name: 'storage', summary: 'say how disk quotas are enforced on this host', client: true, options: [JSON_OPTION] },
  {
    name: 'storage init',
    summary: 'make the pool of files that disk quotas come from, or grow it',
    client: true,
    options: [
      { flags: '--size <SIZE>', summary: 'most that all quotas together may be: 100G', required: true },
      JSON_OPTION,
    ],
  },
]
