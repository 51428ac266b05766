/** AppArmor, where the kernel has it: the profile of ordinary containers, and which profile a container gets. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { PROFILE_NAME, PROFILE_TEXT } from './apparmor-profile.ts'

/** What a kernel with AppArmor has. */
export interface AppArmor {
  /** Names of the profiles that are loaded now. */
  readonly loaded: () => ReadonlySet<string>
  /** Why the default profile could not be loaded. */
  readonly trouble?: string
}

/** How the kernel and its loader are reached. */
export interface AppArmorWays {
  /** Text of a file; undefined where there is none. */
  readonly read: (path: string) => string | undefined
  /** Loads a profile, in place of the one of that name. False where no program can; rejects with what it said. */
  readonly load: (profile: string) => Promise<boolean>
}

const ENABLED = '/sys/module/apparmor/parameters/enabled'
const PROFILES = '/sys/kernel/security/apparmor/profiles'

/**
 * Undefined where the kernel has no AppArmor. The default profile is loaded unless it is already. Without a program that loads one,
 * containers have none, as with podman, and `warn` is called.
 */
export async function openAppArmor(ways: AppArmorWays, warn: (text: string) => void): Promise<AppArmor | undefined> {
  if (ways.read(ENABLED)?.trim() !== 'Y') return undefined
  const loaded = () => profilesIn(ways.read(PROFILES) ?? '')
  if (loaded().has(PROFILE_NAME)) return { loaded }
  try {
    if (!(await ways.load(PROFILE_TEXT)))
      warn('AppArmor is on, but apparmor_parser is missing: containers have no AppArmor profile')
    return { loaded }
  } catch (error) {
    return { loaded, trouble: asDarnerError(error, 'apparmor_parser').message }
  }
}

/** The profile for a container; undefined where it has none. Throws HOST_UNABLE for one that isn't loaded. */
export function appArmorOf(
  { apparmor: asked, privileged }: Pick<CreateRequest, 'apparmor' | 'privileged'>,
  host: AppArmor | undefined,
): string | undefined {
  if (host === undefined) {
    if (asked === undefined || asked === 'unconfined') return undefined
    throw new DarnerError('HOST_UNABLE', `AppArmor profile ${asked}: the kernel of this host has AppArmor off`, {
      way: 'leave --security-opt apparmor out',
    })
  }
  if (asked === 'unconfined' || (asked === undefined && privileged === true)) return 'unconfined'
  const name = asked ?? PROFILE_NAME
  if (host.loaded().has(name)) return name
  if (asked !== undefined && asked !== PROFILE_NAME)
    throw new DarnerError('HOST_UNABLE', `AppArmor profile ${asked} is not loaded`, {
      way: 'load it with apparmor_parser -r FILE',
    })
  if (asked === undefined && host.trouble === undefined) return undefined // nothing here loads profiles
  throw new DarnerError(
    'HOST_UNABLE',
    `AppArmor profile ${name} is not loaded: ${host.trouble ?? 'nothing loads it'}`,
    {
      way: 'mend it and restart the agent, or use --security-opt apparmor=unconfined',
    },
  )
}

/** Names in the kernel's list of `NAME (MODE)` lines. */
function profilesIn(text: string): Set<string> {
  return new Set(text.split('\n').flatMap((line) => /^(.+) \(\w+\)$/.exec(line)?.[1] ?? []))
}
