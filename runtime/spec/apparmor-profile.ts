/** The AppArmor profile of ordinary containers: what docker's and podman's default profiles let through and keep away. */

export const PROFILE_NAME = 'darner-default'

/**
 * Files, networks, capabilities and signals among its own processes; no mounts, no kernel settings outside of kernel.shm*, no writing in
 * /sys outside of cgroups. Signals come from the engine and the runtimes, under profiles of their own where Debian loads these.
 */
export const PROFILE_TEXT = `#include <tunables/global>

profile ${PROFILE_NAME} flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>

  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer=${PROFILE_NAME},
  ptrace (trace,read,tracedby,readby) peer=${PROFILE_NAME},

  deny mount,

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`
