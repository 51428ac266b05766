/** The parts of the OCI runtime configuration that the engine writes (runtime-spec, config.md and config-linux.md). */

export interface OciMount {
  readonly destination: string
  readonly type?: string
  readonly source?: string
  readonly options?: readonly string[]
}

/** `soft` and `hard` are in the unit of the limit; unlimited is 2^64 - 1, which JSON numbers can't hold: see {@link RLIM_INFINITY}. */
export interface OciRlimit {
  readonly type: string
  readonly soft: number
  readonly hard: number
}

export interface OciUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids?: readonly number[]
}

export interface OciCapabilities {
  readonly bounding: readonly string[]
  readonly effective: readonly string[]
  readonly permitted: readonly string[]
  readonly inheritable?: readonly string[]
  readonly ambient?: readonly string[]
}

/** config.md, "Process". Also what an exec hands to the runtime. */
export interface OciProcess {
  readonly terminal: boolean
  readonly consoleSize?: { readonly height: number; readonly width: number }
  readonly user: OciUser
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly capabilities: OciCapabilities
  readonly rlimits: readonly OciRlimit[]
  readonly noNewPrivileges: boolean
  readonly apparmorProfile?: string
  readonly oomScoreAdj?: number
}

export interface OciNamespace {
  readonly type: 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup'
  readonly path?: string
}

/** config-linux.md, "User namespace mappings". */
export interface OciIdMapping {
  readonly containerID: number
  readonly hostID: number
  readonly size: number
}

export interface OciDeviceRule {
  readonly allow: boolean
  readonly type?: 'a' | 'b' | 'c'
  readonly major?: number
  readonly minor?: number
  readonly access: string
}

/** config-linux.md, "Seccomp". */
export interface OciSeccomp {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures?: readonly string[]
  readonly syscalls: readonly OciSyscall[]
}

export interface OciSyscall {
  readonly names: readonly string[]
  readonly action: string
  readonly errnoRet?: number
  readonly args?: readonly OciSyscallArgument[]
}

export interface OciSyscallArgument {
  readonly index: number
  readonly value: number
  readonly valueTwo?: number
  readonly op: string
}

export interface OciDevice {
  readonly path: string
  readonly type: 'b' | 'c'
  readonly major: number
  readonly minor: number
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
}

/** config-linux.md, "Control groups". */
export interface OciThrottle {
  readonly major: number
  readonly minor: number
  /** Bytes or operations a second. */
  readonly rate: number
}

export interface OciResources {
  readonly devices: readonly OciDeviceRule[]
  readonly pids?: { readonly limit: number }
  readonly memory?: {
    readonly limit?: number
    readonly swap?: number
    readonly reservation?: number
    readonly swappiness?: number
  }
  readonly cpu?: {
    readonly shares?: number
    readonly quota?: number
    readonly period?: number
    readonly cpus?: string
    readonly mems?: string
  }
  readonly blockIO?: {
    readonly weight?: number
    readonly throttleReadBpsDevice?: readonly OciThrottle[]
    readonly throttleWriteBpsDevice?: readonly OciThrottle[]
    readonly throttleReadIOPSDevice?: readonly OciThrottle[]
    readonly throttleWriteIOPSDevice?: readonly OciThrottle[]
  }
}

export interface OciSpec {
  readonly ociVersion: string
  readonly process: OciProcess
  readonly root: { readonly path: string; readonly readonly: boolean }
  readonly hostname?: string
  readonly domainname?: string
  readonly mounts: readonly OciMount[]
  readonly annotations?: Readonly<Record<string, string>>
  readonly linux: {
    readonly cgroupsPath: string
    readonly namespaces: readonly OciNamespace[]
    readonly uidMappings?: readonly OciIdMapping[]
    readonly gidMappings?: readonly OciIdMapping[]
    readonly resources: OciResources
    readonly devices?: readonly OciDevice[]
    readonly rootfsPropagation?: string
    readonly maskedPaths: readonly string[]
    readonly readonlyPaths: readonly string[]
    readonly seccomp?: OciSeccomp
    readonly sysctl?: Readonly<Record<string, string>>
  }
}
