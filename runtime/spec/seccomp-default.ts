/**
 * The seccomp profile that containers have unless they bring their own: the allow-list of docker's default profile. What that list refuses
 * fails with EPERM. What it doesn't know, newer calls too, fails with ENOSYS, so that programs fall back to what there is.
 */
import type { OciSyscallArgument } from './oci-spec.ts'
import type { SeccompCondition, SeccompProfile } from './seccomp-profile.ts'

const EPERM = 1
const ENOSYS = 38
const AF_VSOCK = 40
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NAMESPACE_FLAGS = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
const ALL_NAMESPACES = NAMESPACE_FLAGS.reduce((sum, flag) => sum + flag, 0)
/** Linux, Linux 32 bit, each also with UNAME26, and the question what it is. */
const PERSONALITIES = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff]

/** For everybody. */
const ALLOWED = `
  _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
  clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
  close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
  epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
  fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork
  fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
  futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
  geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
  getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
  getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
  io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
  landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64
  madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2
  mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap
  msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause
  pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2
  prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read
  readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat
  renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
  rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
  sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
  sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
  sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
  setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
  setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd
  signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync
  sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
  timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
  truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid
  waitpid write writev`

/** For a container that has one of the capabilities. */
const BY_CAPABILITY: readonly (readonly [capabilities: readonly string[], names: string])[] = [
  [['CAP_DAC_READ_SEARCH'], 'open_by_handle_at'],
  [
    ['CAP_SYS_ADMIN'],
    `fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree quotactl quotactl_fd
     setdomainname sethostname setns umount umount2 unshare`,
  ],
  [['CAP_SYS_ADMIN', 'CAP_BPF'], 'bpf'],
  [['CAP_SYS_ADMIN', 'CAP_PERFMON'], 'perf_event_open'],
  [['CAP_SYS_ADMIN', 'CAP_SYSLOG'], 'syslog'],
  [['CAP_SYS_BOOT'], 'reboot'],
  [['CAP_SYS_CHROOT'], 'chroot'],
  [['CAP_SYS_MODULE'], 'delete_module finit_module init_module'],
  [['CAP_SYS_NICE'], 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node'],
  [['CAP_SYS_PACCT'], 'acct'],
  [['CAP_SYS_PTRACE'], 'kcmp pidfd_getfd process_madvise'],
  [['CAP_SYS_RAWIO'], 'ioperm iopl'],
  [['CAP_SYS_TIME'], 'clock_settime clock_settime64 settimeofday stime'],
  [['CAP_SYS_TTY_CONFIG'], 'vhangup'],
]

const BY_ARCH: readonly (readonly [arches: readonly string[], names: string])[] = [
  [['amd64', 'x32'], 'arch_prctl'],
  [['amd64', 'x32', 'x86'], 'modify_ldt'],
  [['arm', 'arm64'], 'arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2'],
  [['ppc64le'], 'swapcontext sync_file_range2'],
  [['riscv64'], 'riscv_flush_icache riscv_hwprobe'],
  [['s390', 's390x'], 's390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr'],
]

/** For nobody, whatever its capabilities: keyrings aren't separate, and the rest is the host's or long out of use. */
const REFUSED = `
  _sysctl add_key bdflush create_module get_kernel_syms kexec_file_load kexec_load keyctl migrate_pages move_pages nfsservctl
  pivot_root query_module request_key sgetmask ssetmask swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old`

const words = (text: string): string[] => text.trim().split(/\s+/)
const none: SeccompCondition = { caps: [], arches: [], minKernel: undefined }
const allow = (names: readonly string[], args?: readonly OciSyscallArgument[], includes = none, excludes = none) => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  ...(args === undefined ? {} : { args }),
  includes,
  excludes,
})
const refuse = (names: readonly string[], args?: readonly OciSyscallArgument[], excludes = none) => ({
  ...allow(names, args, none, excludes),
  action: 'SCMP_ACT_ERRNO',
  errnoRet: EPERM,
})

/** clone(2) without new namespaces; its flags are the argument `index`. */
const plainClone = (index: number) => ({ index, value: ALL_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' })
const cloneInto = (index: number, flag: number) => ({ index, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' })
const S390 = ['s390', 's390x']
const admin = { ...none, caps: ['CAP_SYS_ADMIN'] }

const first = (value: number, op: string) => [{ index: 0, value, valueTwo: 0, op }]

export const DEFAULT_SECCOMP: SeccompProfile = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: ENOSYS,
  archMap: [
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    { architecture: 'SCMP_ARCH_S390X', subArchitectures: ['SCMP_ARCH_S390'] },
    { architecture: 'SCMP_ARCH_RISCV64', subArchitectures: [] },
  ],
  syscalls: [
    allow(words(ALLOWED)),
    ...PERSONALITIES.map((value) => allow(['personality'], first(value, 'SCMP_CMP_EQ'))),
    // its addresses are of virtual machines, which no network namespace keeps apart
    allow(['socket'], first(AF_VSOCK, 'SCMP_CMP_NE')),
    refuse(['socket'], first(AF_VSOCK, 'SCMP_CMP_EQ')),
    ...BY_CAPABILITY.flatMap(([caps, names]) => [
      allow(words(names), undefined, { ...none, caps: [...caps] }),
      refuse(words(names), undefined, { ...none, caps: [...caps] }),
    ]),
    // clone3 takes its flags from memory, where no filter reads them: without it programs use clone
    allow(['clone', 'clone3'], undefined, admin),
    ...[
      { index: 0, includes: none, excludes: { ...admin, arches: S390 } },
      { index: 1, includes: { ...none, arches: S390 }, excludes: admin },
    ].flatMap(({ index, includes, excludes }) => [
      allow(['clone'], [plainClone(index)], includes, excludes),
      ...NAMESPACE_FLAGS.map((flag) => ({ ...refuse(['clone'], [cloneInto(index, flag)], excludes), includes })),
    ]),
    ...BY_ARCH.map(([arches, names]) => allow(words(names), undefined, { ...none, arches: [...arches] })),
    refuse(words(REFUSED)),
  ],
}
