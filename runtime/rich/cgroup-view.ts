/** Which cgroup tree a systemd in a container is shown: what its version can use and the host can give. A pure decision. */
import { DarnerError } from '../../src/core/errors.ts'
import type { CgroupLayout } from '../spec/cgroups.ts'
import type { OciMount } from '../spec/oci-spec.ts'

/** The first systemd that runs on a cgroup2 tree alone with its own namespace as delegated (NEWS of 232 and 233). */
const FIRST_UNIFIED = 233
/** The first that knows no cgroup v1 any more (NEWS of 258). */
const FIRST_WITHOUT_V1 = 258

export type CgroupView = 'v2' | 'v2-beside-v1' | 'v1'

/**
 * `v2`: the host's tree, delegated. `v2-beside-v1`: the runtime keeps its limits in v1 hierarchies while the container sees a
 * pure v2. `v1`: all v1 hierarchies, for a systemd that is too old for v2. An unknown version counts as new.
 * Throws HOST_UNABLE when none fits, naming version and layout.
 */
export function cgroupViewFor(
  version: number | undefined,
  layout: Pick<CgroupLayout, 'kind' | 'v1' | 'v2'>,
): CgroupView {
  const said = version === undefined ? 'systemd of unknown version' : `systemd ${version}`
  const unified = version === undefined || version >= FIRST_UNIFIED
  if (layout.kind === 'v2') {
    if (unified) return 'v2'
    throw new DarnerError('HOST_UNABLE', `${said} needs cgroup v1, and this host has cgroup v2 only`)
  }
  if (layout.kind === 'hybrid' && unified) return 'v2-beside-v1'
  if (layout.v1.has('name=systemd') && (version === undefined || version < FIRST_WITHOUT_V1)) return 'v1'
  const has = layout.kind === 'none' ? 'no cgroups' : describeV1(layout)
  throw new DarnerError(
    'HOST_UNABLE',
    unified
      ? `${said} needs cgroup v2, and this host has ${has}`
      : `${said} needs a name=systemd hierarchy, and this host has ${has}`,
  )
}

/** The mount at /sys/fs/cgroup for a view. */
export function cgroupMount(view: CgroupView): OciMount {
  const options = ['nosuid', 'noexec', 'nodev', 'rw']
  const type = view === 'v2-beside-v1' ? 'cgroup2' : 'cgroup'
  return { destination: '/sys/fs/cgroup', type, source: type, options }
}

function describeV1({ v1 }: Pick<CgroupLayout, 'v1'>): string {
  return v1.has('name=systemd') ? 'cgroup v1 only' : 'cgroup v1 without a name=systemd hierarchy'
}
