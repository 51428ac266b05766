/** The shape of a seccomp profile before a machine and a container's capabilities resolve its conditions. */
import type { OciSyscall } from './oci-spec.ts'

/** A profile with conditions, as the containers-common and docker projects write it. */
export interface SeccompProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly archMap: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] }[]
  readonly syscalls: readonly ConditionalSyscall[]
}

export interface ConditionalSyscall extends OciSyscall {
  readonly includes: SeccompCondition
  readonly excludes: SeccompCondition
}

/** Each that isn't empty must hold; of `excludes`, any that does rules out. */
export interface SeccompCondition {
  readonly caps: readonly string[]
  readonly arches: readonly string[]
  readonly minKernel: string | undefined
}
