/** What the container engine gives rich containers at each step of a run, and what they may change there. */
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { DiskQuota, HookResult } from '../../src/api/rich-api.ts'
import type { Bundle } from '../shim/bundle.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import type { ImageRunConfig } from '../spec/image-config.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import type { HostFacts } from '../spec/spec.ts'
import type { FoundUser } from '../spec/users.ts'

/** One run, as it is being made. */
export interface RunFacts {
  readonly id: string
  readonly name: string
  readonly bundle: Bundle
  readonly request: CreateRequest
  readonly image: ImageRunConfig
  readonly runtime: OciRuntime
  /** Below the hierarchy roots: `/darner/<id>`. */
  readonly cgroupPath: string
}

/** A run whose root file system is mounted. */
export interface MountedRun extends RunFacts {
  readonly rootfs: string
  readonly user: FoundUser
  readonly host: HostFacts
}

export interface RunEnd {
  readonly exitCode: number
  readonly error?: string
}

export interface Shaped {
  readonly spec: OciSpec
  /** Stop signal by number, if the root file system names a better one than image and request. */
  readonly stopSignal?: number
  /** Also for terminals that the request doesn't ask for. */
  readonly tty: boolean
}

export interface Noting {
  readonly signal: AbortSignal
  /** Puts how a hook went on the container's record. */
  readonly note: (result: HookResult) => Promise<void>
}

/** Called by the engine in this order, under the container's lock. */
export interface RunExtension {
  /** At create: the request with what its mode implies. Throws BAD_ARGUMENT. */
  settle(
    request: CreateRequest,
    image: ImageRunConfig,
  ): { readonly request: CreateRequest; readonly warnings: readonly string[] }
  /** At create. Throws HOST_UNABLE for quotas and lxcfs where this host has none. */
  check(request: CreateRequest): Promise<void>
  /** A container that is on record: made now, or found at the start of the agent. */
  known(id: string, request: CreateRequest): void
  /** Another disk quota for a writable layer, at once. Throws HOST_UNABLE, UNSUPPORTED. */
  requota(rootfsId: string, quota: DiskQuota, options: { signal: AbortSignal }): Promise<void>
  /** Before the root file system is mounted. */
  preStart(run: RunFacts, options: Noting): Promise<void>
  /** The spec is built, nothing is written yet. */
  shape(spec: OciSpec, run: MountedRun, options: { signal: AbortSignal }): Promise<Shaped>
  /** Where conmon stands while it creates the container; undefined for the usual place. */
  conmonCgroup(run: RunFacts): string | undefined
  /** The namespaces stand, PID 1 waits. */
  created(run: RunFacts, pid: number, options: Noting): Promise<void>
  /** The process runs, also when it was found running after a restart of the agent (`again`). */
  started(run: RunFacts, pid: number, options: Noting & { readonly again: boolean }): Promise<void>
  /** Before the stop signal. Never throws for a hook. */
  stopping(run: RunFacts, pid: number | undefined, options: Noting): Promise<void>
  /** The run is over, or was found to be over; also after a start that failed. Fine to call again. */
  ended(run: RunFacts, end: RunEnd, options: Noting): Promise<void>
  /** The container's files are gone. Fine to call again. */
  removed(id: string): Promise<void>
}
