/** Cgroup namespaces (cgroup_namespaces(7)): which containers get one, and which can't. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { CgroupLayout } from './cgroups.ts'

export type CgroupnsMode = 'host' | 'private'

/** As docker has it: one of its own on cgroup v2, the host's on v1. A systemd as PID 1 has one wherever there is a v2 to show it. */
export function cgroupnsOf(
  { cgroupns, rich }: Pick<CreateRequest, 'cgroupns' | 'rich'>,
  { kind }: Pick<CgroupLayout, 'kind'>,
): CgroupnsMode {
  if (rich === 'systemd') return kind === 'v2' || kind === 'hybrid' ? 'private' : 'host'
  return cgroupns ?? (kind === 'v2' ? 'private' : 'host')
}

/** Throws UNSUPPORTED for what a systemd as PID 1 doesn't get, HOST_UNABLE where the kernel has no such namespaces. */
export function checkCgroupns(
  request: Pick<CreateRequest, 'cgroupns' | 'rich'>,
  { cgroups, cgroupNamespaces }: { readonly cgroups: Pick<CgroupLayout, 'kind'>; readonly cgroupNamespaces: boolean },
): void {
  const { cgroupns: asked } = request
  if (asked === undefined) return
  const given = cgroupnsOf(request, cgroups)
  if (asked !== given)
    throw new DarnerError('UNSUPPORTED', `cgroupns ${asked}: on this host a systemd as PID 1 has ${given}`, {
      way: 'leave --cgroupns out',
    })
  if (asked === 'private' && !cgroupNamespaces)
    throw new DarnerError('HOST_UNABLE', 'cgroupns private: the kernel of this host has no cgroup namespaces', {
      way: 'use --cgroupns host',
    })
}
