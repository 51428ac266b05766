/** Where settings lie when nobody says otherwise. */
import type { Role } from './schema.ts'

export const DEFAULT_FILES: Readonly<Record<Role, string>> = {
  supernode: '/etc/darner/supernode.yaml',
  agent: '/etc/darner/agent.yaml',
}
