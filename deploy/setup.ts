/** Installs the Debian packages that are missing, saying what and why. Used by `npm test` and `npm run demo`. */
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** A Debian package, the program that shows it is there, and what it is for. */
export interface Tool {
  readonly debian: string
  /** A program on the PATH, or an absolute path. */
  readonly program: string
  readonly why: string
}

/** What the tests and the demo run beside darner, by the program's name. */
export const TOOLS = [
  { debian: 'runc', program: 'runc', why: 'OCI runtime that starts containers' },
  { debian: 'crun', program: 'crun', why: 'OCI runtime that starts containers, the faster one' },
  { debian: 'conmon', program: 'conmon', why: 'holds each container, so that it outlives the agent' },
  { debian: 'erofs-utils', program: 'fsck.erofs', why: 'checks the EROFS images that tests make' },
  { debian: 'docker-registry', program: 'docker-registry', why: 'a real registry to pull from' },
  { debian: 'skopeo', program: 'skopeo', why: 'pushes images to the registry' },
  { debian: 'containerd', program: 'containerd', why: 'pulls through the mirror, by ctr' },
  { debian: 'podman', program: 'podman', why: 'pulls through the mirror' },
  { debian: 'docker.io', program: 'dockerd', why: 'pulls through the mirror' },
  { debian: 'docker-cli', program: 'docker', why: 'tells dockerd to pull' },
  { debian: 'docker-compose', program: 'docker-compose', why: 'runs a stack of services on the docker socket' },
  { debian: 'tini', program: 'tini-static', why: 'the init of docker run --init' },
  { debian: 'umoci', program: 'umoci', why: 'makes OCI images' },
  { debian: 'oras', program: 'oras', why: 'pulls artifacts through the mirror' },
  { debian: 'debootstrap', program: 'debootstrap', why: 'makes a Debian root file system for an image' },
  { debian: 'iproute2', program: 'ip', why: 'network namespaces, one per host' },
  { debian: 'util-linux', program: 'unshare', why: 'private stages for privileged tests' },
  { debian: 'mount', program: 'mount', why: 'mounts layers' },
  { debian: 'dumb-init', program: 'dumb-init', why: 'reaps processes on a private stage' },
  {
    debian: 'containernetworking-plugins',
    program: '/usr/lib/cni/bridge',
    why: 'bridges, addresses and published ports of containers',
  },
  { debian: 'iptables', program: 'iptables', why: 'rules of published ports' },
  { debian: 'nftables', program: 'nft', why: 'lists the rules that tests could leave behind' },
  {
    debian: 'golang-github-containers-common',
    program: '/usr/share/containers/seccomp.json',
    why: "podman's seccomp profile, to compare with",
  },
  { debian: 'apparmor', program: 'apparmor_parser', why: 'checks the AppArmor profile of containers' },
  { debian: 'lxcfs', program: 'lxcfs', why: 'tells a container its own CPUs and memory' },
  { debian: 'e2fsprogs', program: 'mkfs.ext4', why: 'room with a quota, in a file' },
  { debian: 'btrfs-progs', program: 'mkfs.btrfs', why: 'a disk that tells of what it lost' },
  { debian: 'zsh', program: 'zsh', why: 'completes command lines by our script' },
  { debian: 'fish', program: 'fish', why: 'completes command lines by our script' },
  { debian: 'procps', program: 'ps', why: 'processes of a container, for top' },
  { debian: 'openssh-client', program: 'ssh', why: 'logs into a rich container' },
  { debian: 'zstd', program: 'zstd', why: 'makes zstd layers for tests' },
  { debian: 'xz-utils', program: 'xz', why: 'unpacks Debian packages' },
  { debian: 'attr', program: 'setfattr', why: 'sets extended attributes in test layers' },
  { debian: 'busybox-static', program: 'busybox', why: 'the smallest image that has a shell' },
  { debian: 'curl', program: 'curl', why: 'compares what darner fetched with what curl fetches' },
  { debian: 'radosgw', program: 'radosgw', why: 'an S3 server that checks signatures' },
  { debian: 'ca-certificates', program: '/etc/ssl/certs/ca-certificates.crt', why: 'lets https origins be checked' },
  {
    debian: 'golang-github-opencontainers-specs-dev',
    program: '/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema/config-schema.json',
    why: 'the schema that the config.json of every container is held against',
  },
] as const satisfies readonly Tool[]

/** What `npm run bench -- swarm` runs beside darner. */
export const SWARM_BENCH_TOOLS = [
  { debian: 'aria2', program: 'aria2c', why: 'BitTorrent, to compare with' },
  { debian: 'curl', program: 'curl', why: 'plain HTTP, to compare with' },
  { debian: 'iproute2', program: 'tc', why: 'links with a rate' },
  { debian: 'util-linux', program: 'setpriv', why: 'ends what the bench started with it' },
] as const satisfies readonly Tool[]

/** What `npm run bench -- yield` runs beside darner. */
export const YIELD_BENCH_TOOLS = [
  ...SWARM_BENCH_TOOLS.filter(({ program }) => program !== 'aria2c'),
  { debian: 'iputils-ping', program: 'ping', why: 'how long a packet waits' },
] as const satisfies readonly Tool[]

/** What `npm run test:vm` and `npm run vm` run on this host; no other script needs them. */
export const VM_TOOLS = [
  { debian: 'qemu-system-x86', program: 'qemu-system-x86_64', why: 'emulates the virtual machine' },
  { debian: 'debootstrap', program: 'debootstrap', why: "makes the virtual machine's system" },
  { debian: 'e2fsprogs', program: 'mkfs.ext4', why: "makes the virtual machine's disk" },
  { debian: 'erofs-utils', program: 'mkfs.erofs', why: "makes the project's disk" },
  { debian: 'util-linux', program: 'setpriv', why: 'ends the virtual machine with who started it' },
] as const satisfies readonly Tool[]

/** Debian's packages inside the virtual machine. */
export const GUEST_PACKAGES = [
  ...['systemd', 'systemd-sysv', 'udev', 'dbus', 'kmod', 'procps', 'iproute2', 'iptables', 'nftables', 'apparmor'],
  ...['runc', 'crun', 'conmon', 'containernetworking-plugins', 'golang-github-containers-common', 'tini', 'dumb-init'],
  ...['libstdc++6', 'lxcfs', 'fuse3', 'erofs-utils', 'e2fsprogs', 'xfsprogs', 'quota', 'util-linux', 'mount', 'attr'],
  ...['busybox-static', 'debootstrap', 'openssh-client', 'docker-registry', 'docker-cli', 'curl', 'xz-utils', 'zstd'],
] as const satisfies readonly string[]

export interface SetupResult {
  readonly installed: readonly Tool[]
  /** Still missing, with the reason that all of them share. */
  readonly missing: readonly Tool[]
  readonly reason: string | undefined
}

export interface SetupOptions {
  /** Gets each line for the person who waits. */
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

/** Makes `wanted` available: installs what is missing when this is root on a Debian-like system. Never asks anything. */
export async function setUp(wanted: readonly Tool[], options: SetupOptions): Promise<SetupResult> {
  const missing = wanted.filter((tool) => !isThere(tool.program))
  if (missing.length === 0) return { installed: [], missing, reason: undefined }
  const reason = unable()
  if (reason !== undefined) return { installed: [], missing, reason }
  for (const { debian, why } of missing) options.say(`installing ${debian}: ${why}`)
  const names = missing.map((tool) => tool.debian)
  const install = ['install', '-y', '--no-install-recommends', ...names]
  let failure = await apt(install, options)
  if (failure !== undefined) {
    // A new machine has no package lists, an old one stale ones.
    options.say('apt-get update: the package lists are missing or old')
    failure = (await apt(['update'], options)) ?? (await apt(install, options))
  }
  if (failure !== undefined && missing.length > 1) {
    // One package that this release lacks keeps apt from installing any: take them one by one.
    for (const name of names)
      failure = (await apt(['install', '-y', '--no-install-recommends', name], options)) ?? failure
  }
  const left = missing.filter((tool) => !isThere(tool.program))
  return {
    installed: missing.filter((tool) => !left.includes(tool)),
    missing: left,
    reason: left.length > 0 ? (failure ?? 'apt-get brought no such program') : undefined,
  }
}

/** True when a program is on the PATH (or in the system's sbin folders), or a path exists. */
export function isThere(program: string): boolean {
  const folders = program.startsWith('/') ? [''] : [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return folders.some((folder) => {
    try {
      accessSync(
        folder === '' ? program : join(folder, program),
        program.startsWith('/') ? constants.R_OK : constants.X_OK,
      )
      return true
    } catch {
      return false // ENOENT and EACCES: not this one
    }
  })
}

function unable(): string | undefined {
  if (process.geteuid?.() !== 0) return 'installing needs root'
  if (!isThere('apt-get')) return 'this system has no apt-get'
  return undefined
}

/** Runs apt-get without questions; undefined when it went well, else its last words. */
async function apt(args: readonly string[], { signal }: SetupOptions): Promise<string | undefined> {
  const child = spawn('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=120', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    signal,
  })
  let tail = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      tail = (tail + chunk.toString()).slice(-2000)
    })
  }
  const ended = Promise.withResolvers<number | null>()
  child.on('error', ended.reject).on('close', ended.resolve)
  const code = await ended.promise
  return code === 0 ? undefined : `apt-get ${args[0]} ended with ${code}: ${tail.trim().split('\n').at(-1) ?? ''}`
}
