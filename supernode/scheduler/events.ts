/** Events of the scheduler, and its decisions. Plain data: the loop turns messages into events and effects into messages. */
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'

/** Why a child gave a parent up. Only `corrupt` is an accusation: it needs a second witness or the supernode's own check. */
export type ParentFault = 'unreachable' | 'refused' | 'stalled' | 'slow' | 'short' | 'absent' | 'corrupt'

export type SchedulerEvent =
  /** A host connected. `seed`: it may read the origin for others (the supernode's own store, or a seed host). */
  | {
      readonly kind: 'peerJoined'
      readonly peer: PeerId
      readonly zone?: string
      readonly rack?: string
      readonly seed?: boolean
    }
  | { readonly kind: 'peerLeft'; readonly peer: PeerId }
  /** A sign of life that says nothing else; any other event from a peer is one too. */
  | { readonly kind: 'alive'; readonly peer: PeerId }
  /**
   * A peer wants the task, or holds it: `have` of `pieces`. Registering again (after a restart of either side) is fine. `left`: it doesn't
   * follow it, and has on its disk what another read may have brought. `claimed`: on the peer's word alone, no place has accepted its
   * right; a task that nobody registered otherwise goes with its last member.
   */
  | {
      readonly kind: 'registered'
      readonly task: TaskId
      readonly peer: PeerId
      readonly pieces: number
      readonly have: number
      readonly left?: boolean
      readonly claimed?: boolean
    }
  | { readonly kind: 'progress'; readonly task: TaskId; readonly peer: PeerId; readonly have: number }
  | {
      readonly kind: 'parentFailed'
      readonly task: TaskId
      readonly peer: PeerId
      readonly parent: PeerId
      readonly reason: ParentFault
    }
  /** The outcome of a {@link SchedulerEffect} `check`. */
  | { readonly kind: 'checked'; readonly accused: PeerId; readonly guilty: boolean }
  /** The holder of the origin lease can't read the origin now. */
  | { readonly kind: 'originFailed'; readonly task: TaskId; readonly peer: PeerId; readonly retryAfterMs?: number }
  /** The seed begins to read a task through a peer that reads its origin, or is done with that. */
  | { readonly kind: 'lends'; readonly task: TaskId; readonly peer: PeerId; readonly on: boolean }
  | { readonly kind: 'leftTask'; readonly task: TaskId; readonly peer: PeerId }
  | { readonly kind: 'tick' }

export interface NewParent {
  readonly peer: PeerId
  /** It chooses the pieces itself. */
  readonly seed: boolean
  /** In a line: 1 is asked for everything, 2 when 1 fails, 3 only when there is nobody else. Left out in a mesh: all are asked. */
  readonly turn?: 1 | 2 | 3
}

export type SchedulerEffect =
  /**
   * `peer` is to close its channels to `drop`, then to open those to `add`. A peer in both turned into a seed, or back. One that is a
   * parent already has another rank.
   */
  | {
      readonly kind: 'parents'
      readonly task: TaskId
      readonly peer: PeerId
      readonly add: readonly NewParent[]
      readonly drop: readonly PeerId[]
    }
  /** `holder` alone may read the origin for this task until `untilMs`, and serves as a seed meanwhile; progress renews it. */
  | {
      readonly kind: 'lease'
      readonly task: TaskId
      readonly holder: PeerId
      readonly untilMs: number
      readonly why: LeaseReason
    }
  /** One peer says that `accused` sent a corrupt piece: fetch one from it and see. */
  | { readonly kind: 'check'; readonly task: TaskId; readonly accused: PeerId; readonly by: PeerId }
  /** Out of the swarm, with its witnesses: refuse its connections, revoke its passes. */
  | { readonly kind: 'ban'; readonly peer: PeerId; readonly witnesses: readonly PeerId[] }

/** Why an origin lease was given, for the record. */
export type LeaseReason = 'first reader' | 'holder left' | 'holder silent' | 'origin failed there'
