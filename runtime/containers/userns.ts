/** User namespaces of containers: which containers get one, what works with it and what doesn't, and which ids of the host are its own. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { IdMap } from '../../src/core/contracts/snapshots.ts'
import { DarnerError } from '../../src/core/errors.ts'

/** As many ids as a distribution gives out at once (subuid(5)). */
const RANGE_IDS = 65_536
/** Ids that neither distributions nor systemd give out: 0x70000000 to 0x7fffffff (systemd, "Users, Groups, UIDs and GIDs"). */
const FIRST_ID = 0x7000_0000
const RANGES = 4096

/** Throws BAD_ARGUMENT for what would give away the host that the namespace keeps from the container, UNSUPPORTED for what doesn't work in one. */
export function checkUserns(request: CreateRequest): void {
  const refuse = (why: string) => {
    throw new DarnerError('BAD_ARGUMENT', why, { way: 'leave it out, or use --userns host' })
  }
  if (request.privileged === true) refuse('privileged mode is incompatible with user namespaces')
  if ((request.network ?? 'host') === 'host')
    refuse("cannot share the host's network namespace when user namespaces are enabled")
  if (request.hostPid === true) refuse('cannot share the host PID namespace when user namespaces are enabled')
  if (request.hostIpc === true) refuse('cannot share the host IPC namespace when user namespaces are enabled')
  if (request.hostUts === true) refuse('cannot share the host UTS namespace when user namespaces are enabled')
  if (request.rich !== undefined)
    throw new DarnerError('UNSUPPORTED', 'rich containers have no user namespace', { way: 'use --userns host' })
}

/** Ids that no other container has, so that two containers are strangers to each other too. Throws LIMIT_EXCEEDED. */
export function freeRange(taken: Iterable<IdMap>): IdMap {
  const bases = new Set([...taken].map((one) => one.base))
  for (let at = 0; at < RANGES; at++) {
    const base = FIRST_ID + at * RANGE_IDS
    if (!bases.has(base)) return { base, size: RANGE_IDS }
  }
  throw new DarnerError('LIMIT_EXCEEDED', `user namespaces: all ${RANGES} ranges of ids are taken by containers`)
}

/** What tar needs to write the container's own ids in the place of the host's: a file for `--owner-map` and `--group-map`. */
export function ownerMap({ base, size }: IdMap): string {
  let text = ''
  for (let id = 0; id < size; id++) text += `+${base + id} +${id}\n`
  return text
}
