/** What docker's HostConfig says about confinement: `--security-opt`. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import { errorLine } from '../../src/core/errors.ts'
import { parseSeccompProfile } from '../spec/seccomp.ts'
import { StatusError } from './errors.ts'

/** Throws 400, and 501 for what this host has no way to enforce. */
export function readSecurity(asked: readonly string[] | null | undefined): Partial<CreateRequest> {
  const found: { noNewPrivileges?: boolean; seccomp?: 'unconfined'; seccompProfile?: string; apparmor?: string } = {}
  for (const option of asked ?? []) {
    const [, name = '', value = ''] = /^([^=:]+)(?:[=:](.*))?$/s.exec(option) ?? []
    if (name === 'no-new-privileges') {
      if (value !== '' && value !== 'true' && value !== 'false')
        throw new StatusError(400, `invalid --security-opt 2: "${option}"`)
      if (value !== 'false') found.noNewPrivileges = true
    } else if (name === 'seccomp' && value === 'unconfined') found.seccomp = 'unconfined'
    else if (name === 'seccomp' && value === 'builtin') continue
    else if (name === 'seccomp') found.seccompProfile = ownProfile(value)
    else if (name === 'apparmor' && /^[^\s\0]{1,512}$/.test(value)) found.apparmor = value
    else if (name === 'label' && value === 'disable') continue
    else if (name === 'label') throw new StatusError(501, `--security-opt ${name} is not offered on this host`)
    else throw new StatusError(400, `invalid --security-opt 2: "${option.slice(0, 200)}"`)
  }
  return found
}

/** Clients send the profile itself, not its path. Throws 400. */
function ownProfile(text: string): string {
  try {
    parseSeccompProfile(JSON.parse(text), 'of the container')
    return text
  } catch (error) {
    throw new StatusError(400, `opening seccomp profile (${text.slice(0, 60)}) failed: ${errorLine(error)}`)
  }
}
