/**
 * SchedulerPort: what a peer asks of the supernode. The peer's client implements it over a control session; tests implement
 * it in memory. A peer works on without it: running tasks go on among the last known parents.
 */

import type { Digest } from '../digest.ts'
import type { Code } from '../errors.ts'
import type { ReadonlyBitmap } from '../task/bitmap.ts'
import type { Credential, Origin } from '../task/origin.ts'
import type { Place } from '../task/place.ts'
import type { Task, TaskId } from '../task/task.ts'
import type { ByteSources, ManifestAnswer, ManifestRequest, Priority } from './content.ts'
import type { PeerAddress, PeerId } from './exchange.ts'

/** A parent as the scheduler names it. A seed chooses the pieces that it gives. */
export interface Parent extends PeerAddress {
  readonly seed: boolean
  /** Where hosts stand in a line: 1 is asked for everything, 2 when 1 fails, 3 only when there is nobody else. Left out: asked like all others. */
  readonly turn?: 1 | 2 | 3
  readonly zone?: string
}

export interface RegisterRequest {
  readonly origin: Origin
  readonly digest?: Digest
  readonly bytes?: number
  readonly credential?: Credential
  readonly priority: Priority
  /** The preheat that this is part of: its rights count. */
  readonly preheat?: string
  /** This host would read the origin itself, if nobody holds or reads the blob yet. */
  readonly lead?: boolean
  /** Places that have given this host other bytes under this digest. */
  readonly wrongAt?: readonly Origin[]
  /** Pieces held already, when the geometry is known from an earlier run. */
  readonly have?: ReadonlyBitmap
}

/** Of whose right it is asked, for a blob that is held here. */
export interface RightRequest extends Pick<RegisterRequest, 'origin' | 'bytes' | 'credential' | 'preheat'> {
  readonly digest: Digest
  /** A place that has served nothing of the blob yet is read to its end, to see that it has it. */
  readonly prove: boolean
}

/** Where the asker's credential was accepted, or anybody has it; `through` where that place has not yet served the blob whole. */
export interface RightAnswer {
  readonly place: Place
  readonly anybody: boolean
  readonly reach: 'whole' | 'through'
}

/** What a task's followers receive, in order, until the task is left. */
export type TaskUpdate =
  | { readonly kind: 'parents'; readonly add: readonly Parent[]; readonly drop: readonly PeerId[] }
  /** SHA-256 digests, 32 bytes each, of pieces from `from` on, and the states of the blob's own after the first of these, and inside. */
  | {
      readonly kind: 'table'
      readonly from: number
      readonly digests: Uint8Array
      readonly states?: Uint8Array
      readonly steps?: Uint8Array
    }
  /** The whole blob was verified: its digest. */
  | { readonly kind: 'sealed'; readonly digest: Digest }
  /** The right to read was renewed. */
  | { readonly kind: 'pass'; readonly pass: Uint8Array }
  /** This peer is to read pieces from the origin on behalf of all, from piece `from` on: where `open`, without a credential. */
  | { readonly kind: 'lease'; readonly from: number; readonly open: boolean }
  | { readonly kind: 'failed'; readonly error: Error }
  /** The scheduler was lost and has come back: parents and table are current again. */
  | { readonly kind: 'rejoined' }

export interface Progress {
  /** Runs of pieces gained since the last report. */
  readonly runs: readonly (readonly [from: number, count: number])[]
  readonly complete: boolean
  readonly from: ByteSources
}

/** One followed task. Closing it leaves the task at the scheduler. */
export interface Registration extends AsyncDisposable {
  readonly task: Task
  /** The whole blob, when it is small enough to travel in the answer. */
  readonly inline: Uint8Array | undefined
  /** This host reads the origin, with its own rights: what it reports is what others may have from it. */
  readonly lead?: boolean
  /** The right to read, to show to parents; empty where this host reads the origin with rights that nobody has seen. */
  readonly pass: Uint8Array
  readonly updates: AsyncIterable<TaskUpdate>
  report(progress: Progress): void
  /** The origin can't be read from here either, so that a lease is of no use. */
  unsourced(error: Error): void
  /** A parent that failed this peer: the code says how; `piece` when one was at stake. */
  blame(parent: PeerId, code: Code, piece?: number): void
}

/** What says that the scheduler can't be asked now. Any other failure is its answer, or the origin's. */
export const SCHEDULER_UNREACHABLE = ['SUPERNODE_UNREACHABLE', 'CLOSED', 'TIMED_OUT', 'PEER_UNREACHABLE'] as const

export interface SchedulerPort {
  /** Whether a session with the supernode stands now. */
  readonly connected: boolean
  /** Waits a moment for a session, and not at all where the supernode is known to be away. Throws SUPERNODE_UNREACHABLE, ADMISSION_REFUSED, or the signal's reason. */
  reachable(options: { signal: AbortSignal }): Promise<void>
  /** Follows a task. Throws the origin's errors as the supernode met them, SUPERNODE_UNREACHABLE when it can't be asked. */
  register(request: RegisterRequest, options: { signal: AbortSignal }): Promise<Registration>
  /** Whether a reader on this host may have a blob. Throws the origin's errors, SUPERNODE_UNREACHABLE. */
  right(request: RightRequest, options: { signal: AbortSignal }): Promise<RightAnswer>
  manifest(request: ManifestRequest, options: { signal: AbortSignal }): Promise<ManifestAnswer>
  /** The supernode's public identity, that passes are signed with. Known from its address. */
  readonly supernode: PeerId
  /** Tasks held here were dropped: not to be named as a parent for them any more. */
  forget(tasks: readonly TaskId[]): void
}
