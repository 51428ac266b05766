/** Container clients that `darner mirror setup` knows. */
export const CLIENTS = ['containerd', 'podman', 'docker', 'crio'] as const
export type ClientName = (typeof CLIENTS)[number]
