/** The kinds of clients that can be pointed at the mirror, by name. */

import type { ClientName } from './client-names.ts'
import { containerd } from './containerd.ts'
import { docker } from './docker.ts'
import type { ClientSetup } from './plan.ts'
import { containersSetup } from './podman.ts'

export const SETUPS: Readonly<Record<ClientName, ClientSetup>> = {
  containerd,
  docker,
  podman: containersSetup('podman, skopeo and buildah read it at each command'),
  crio: containersSetup('reload cri-o to take it up: systemctl reload crio; podman and skopeo use the same file'),
}
