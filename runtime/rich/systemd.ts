/**
 * A spec under which an unmodified systemd is PID 1 (systemd's "Container Interface" document; docs/rich.md has the table of
 * capabilities with their reasons). Pure, but for looking into the root file system.
 */
import { DarnerError } from '../../src/core/errors.ts'
import type { OciMount, OciSpec } from '../spec/oci-spec.ts'
import { type CgroupView, cgroupMount } from './cgroup-view.ts'
import { isProgramIn, sameFileIn, systemdIn } from './init-kind.ts'

/** Longer than systemd's own DefaultTimeoutStopSec, 90 s: its stop jobs have their time before KILL. */
export const SYSTEMD_STOP_SEC = 100
/** SIGRTMIN+3: halt.target. */
export const SYSTEMD_STOP_SIGNAL = '37'

/** Files that the engine writes for a systemd, all below one folder of the bundle. */
export interface SystemdFiles {
  /** Folder shown read-only at /run/host. */
  readonly host: string
  readonly journald: string
  /** Folder of the socket that PID 1 reports its readiness to. */
  readonly notify: string
  readonly unit?: string
  readonly wants?: string
}

export interface SystemdInput {
  readonly id: string
  readonly view: CgroupView
  readonly files: SystemdFiles
}

export const JOURNALD_CONF = `# What the journal takes in goes to the console too, which is the container's log.
[Journal]
ForwardToConsole=yes
TTYPath=/dev/console
MaxLevelConsole=info
`

export const WANTS_CONF = (unit: string): string => `[Unit]\nWants=${unit}\n`

/** True when the program is the image's init, by whatever name. Throws BAD_ARGUMENT when the image has no systemd. */
export function isSystemd(root: string, program: string): boolean {
  const systemd = systemdIn(root)
  if (systemd === undefined) {
    throw new DarnerError('BAD_ARGUMENT', 'a rich container with systemd: the image has no /usr/lib/systemd/systemd')
  }
  const paths = program.startsWith('/')
    ? [program]
    : ['/sbin', '/usr/sbin', '/bin', '/usr/bin'].map((one) => `${one}/${program}`)
  return paths.some((path) => isProgramIn(root, path) && sameFileIn(root, path, systemd))
}

/** The container's id as the UUID that systemd makes its machine id of. */
export function uuidOf(id: string): string {
  return [id.slice(0, 8), id.slice(8, 12), id.slice(12, 16), id.slice(16, 20), id.slice(20, 32)].join('-')
}

/** Turns an ordinary spec into one for systemd as PID 1; `args` is what PID 1 is. */
export function systemdSpec(spec: OciSpec, args: readonly string[], input: SystemdInput): OciSpec {
  const { files, view, id } = input
  const taken = new Set(spec.mounts.map(({ destination }) => destination))
  const namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'cgroup')
  const env = spec.process.env.filter((one) => !/^(container|container_uuid|NOTIFY_SOCKET|TERM)=/.test(one))
  return {
    ...spec,
    process: {
      ...spec.process,
      terminal: true,
      user: { uid: 0, gid: 0 },
      args,
      env: [
        ...env,
        'container=oci',
        `container_uuid=${uuidOf(id)}`,
        'NOTIFY_SOCKET=/run/host/notify/socket',
        'TERM=dumb', // no colours and cursor moves in the log
        'SYSTEMD_COLORS=0',
      ],
      cwd: '/',
      capabilities: {
        bounding: spec.process.capabilities.bounding,
        effective: spec.process.capabilities.bounding,
        permitted: spec.process.capabilities.bounding,
      },
    },
    mounts: [
      ...tmpfsMounts().filter(({ destination }) => !taken.has(destination)), // first: mounts of the request may lie below
      ...spec.mounts.filter(({ destination }) => destination !== '/sys/fs/cgroup'),
      cgroupMount(view),
      ...fileMounts(files),
    ],
    linux: {
      ...spec.linux,
      namespaces: view === 'v1' ? namespaces : [...namespaces, { type: 'cgroup' }],
    },
  }
}

function tmpfsMounts(): OciMount[] {
  const tmpfs = (destination: string, options: readonly string[]): OciMount => ({
    destination,
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'nodev', ...options],
  })
  return [
    tmpfs('/run', ['mode=755', 'tmpcopyup']), // images keep folders such as /run/sshd there
    tmpfs('/run/lock', ['noexec', 'mode=1777']),
    tmpfs('/tmp', ['mode=1777']),
  ]
}

function fileMounts(files: SystemdFiles): OciMount[] {
  const bind = (source: string, destination: string, mode: 'ro' | 'rw'): OciMount => ({
    destination,
    type: 'bind',
    source,
    options: ['bind', 'rprivate', 'nosuid', 'nodev', 'noexec', mode],
  })
  return [
    bind(files.host, '/run/host', 'ro'),
    bind(files.notify, '/run/host/notify', 'ro'),
    bind(files.journald, '/run/systemd/journald.conf.d/10-darner.conf', 'ro'),
    ...(files.unit === undefined ? [] : [bind(files.unit, '/run/systemd/system/darner-command.service', 'ro')]),
    ...(files.wants === undefined
      ? []
      : [bind(files.wants, '/run/systemd/system/multi-user.target.d/10-darner.conf', 'ro')]),
  ]
}
