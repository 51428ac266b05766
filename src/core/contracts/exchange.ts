/**
 * PieceExchange: serving pieces to peers and fetching pieces from them, over the bulk lane or its libp2p fallback. The peer uses both
 * halves. The supernode's seed uses the serving half, which the composition root gives it.
 */
import type { ReadonlyBitmap } from '../task/bitmap.ts'
import type { Task, TaskId } from '../task/task.ts'
import type { Priority } from './content.ts'

/** A libp2p peer id in its text form. */
export type PeerId = string & { readonly __peerId: true }

/** How to reach a peer: its bulk lane (`host:port`, TLS bound to the PeerId) and its libp2p addresses (multiaddr text). */
export interface PeerAddress {
  readonly peer: PeerId
  readonly lanes: readonly string[]
  readonly multiaddrs: readonly string[]
}

export interface PieceExchange extends AsyncDisposable {
  /** What this side listens on, to be announced. */
  readonly lanes: readonly string[]
  /**
   * Opens one task at a parent. Throws PEER_UNREACHABLE, PEER_REFUSED (it doesn't know the task), CAPABILITY_REFUSED.
   * The connection below is shared by all tasks and kept while it is used.
   */
  open(parent: PeerAddress, task: Task, options: OpenOptions): Promise<ParentChannel>
  /** Ends every connection with a peer, both ways: it was revoked or banned. */
  drop(peer: PeerId, why: string): void
}

export interface OpenOptions {
  /** Shown to the parent, which checks it offline: a signed right of this peer to read. Empty where none is needed. */
  readonly pass: Uint8Array
  /** What this peer holds already: the parent gives none of it. */
  readonly have: ReadonlyBitmap
  readonly priority: Priority
  readonly signal: AbortSignal
}

/** How one piece is asked for. */
export interface FetchOptions {
  readonly signal: AbortSignal
  /** Called once, with the piece's number, when its first bytes arrive. */
  readonly onStart?: (piece: number) => void
}

/** How a piece of the parent's choice is asked for. */
export interface FetchAnyOptions extends FetchOptions {
  /**
   * Whatever the parent chooses is taken: it may send it without an offer. `onOffer` is called all the same, at the first bytes, and
   * changes nothing then.
   */
  readonly sure?: boolean
  /** With `sure`: the parent may also send what is still coming to itself, and withdraw it. */
  readonly early?: boolean
  /** How many pieces are wanted on their way here, from all parents: with more the parent gives to others. */
  readonly ahead?: number
  /** Called with each piece that the parent offers; false declines it. By default the first is taken. */
  readonly onOffer?: (piece: number) => boolean
  /** Called as bytes come: the piece, its memory and how many bytes of it are here; `waits` while the parent hasn't the rest. */
  readonly onPart?: (part: { piece: number; body: Uint8Array; bytes: number; waits: boolean }) => void
}

/** A child's view of one parent for one task. */
export interface ParentChannel extends AsyncDisposable {
  readonly parent: PeerId
  /** What the parent said it holds; grows. */
  readonly haves: ReadonlyBitmap
  /** Whether it says so: a seed doesn't, and may have anything. */
  readonly announces: boolean
  /** Bytes of pieces that its connection has brought so far, of all tasks. A parent of which these grow isn't silent. */
  readonly movedBytes: number
  /** Calls back after `haves` grew, with the new run. Returns the unsubscriber. */
  onHaves(listener: (from: number, count: number) => void): () => void
  /** Exactly the piece's bytes, not yet verified. Throws PIECE_ABSENT, PIECE_SHORT, PEER_REFUSED, PEER_UNREACHABLE, or the signal's reason. */
  fetch(piece: number, options: FetchOptions): Promise<Uint8Array>
  /**
   * A piece of the parent's choice that we lack; waits until it has one to offer. Undefined once it has none left for us. Throws as {@link fetch}, and
   * PIECE_WITHDRAWN of one that the parent sent in part and doesn't get itself.
   */
  fetchAny(options: FetchAnyOptions): Promise<{ piece: number; body: Uint8Array } | undefined>
  /** Gives the memory of a body from {@link fetch} or {@link fetchAny} back, for pieces to come. The caller must not touch it again. */
  release?(body: Uint8Array): void
  /** Shows the parent a newer pass than the channel was opened with: without one it ends when that does. */
  renew(pass: Uint8Array): void
  /** Tells the parent what we hold now: with what else leaves within `waitMs`, at once without it. */
  tell(from: number, count: number, options?: { waitMs: number }): void
  /** Tells the parent that a piece is on its way to us, from it or another, so that it gives us something else; within `waitMs`. */
  coming(piece: number, options?: { waitMs: number }): void
  /** Tells the parent at once that a piece isn't coming after all. */
  lost(piece: number): void
  /** Resolves, with the reason, when the channel ended for any cause. */
  readonly closed: Promise<Error>
}

/** What the serving half asks its owner. */
export interface Shelf {
  /**
   * The task as this peer may read it. Throws PIECE_ABSENT when it isn't here, CAPABILITY_REFUSED when `pass` doesn't do.
   */
  open(task: TaskId, reader: PeerId, pass: Uint8Array): Promise<ShelfTask>
}

/** Pieces that are still on their way here, and are passed on meanwhile. */
export interface ComingPieces {
  /** How many bytes of such a piece can be read now; undefined when it isn't coming: it is here, or won't be. */
  checked(piece: number): number | undefined
  /** Resolves once that is more than `bytes`, or undefined. */
  beyond(piece: number, bytes: number): Promise<void>
}

/** What one child is given of a task. Dispose when the child closed the task. */
export interface GivingTo extends Disposable {
  /**
   * A piece that the child lacks, once the uplink is free for it; undefined when it has everything. `sure`: the child takes any piece.
   * `early`: it may be a piece that still arrives here. `ahead`: how many it wants on their way. Throws the signal's reason.
   */
  choose(options: { signal: AbortSignal; sure?: boolean; early?: boolean; ahead?: number }): Promise<number | undefined>
  /** The child reported that a piece is on its way to it, or that it isn't after all. */
  coming(piece: number): void
  lost(piece: number): void
  /** The child reported that it holds some. */
  told(from: number, count: number): void
  /** It took the piece that was chosen. */
  taken(piece: number): void
  /** A piece that it asked for by name begins to be sent. */
  named(piece: number): void
  /** A piece went out whole. */
  sent(piece: number): void
  /** A piece waits for the child, or for a limit: others may have the uplink. */
  yields(piece: number): void
  /** A piece went out only in part, or not at all. */
  unsent(piece: number): void
}

/** One task on the shelf, opened for one child. */
export interface ShelfTask extends Disposable {
  readonly task: Task
  /** Asked before bytes leave: throws CAPABILITY_REFUSED once the right that the child showed is over. */
  check(): void
  /** The child shows a newer right. Throws CAPABILITY_REFUSED. */
  renew(pass: Uint8Array): void
  readonly have: ReadonlyBitmap
  /** Calls back for each run of pieces stored from now on. */
  onPieces(listener: (from: number, count: number) => void): () => void
  /** Left out where nothing is given before it is here whole. */
  readonly coming?: ComingPieces
  /** Fills `into` with verified bytes of a piece that is here or coming, from `offset` on. Throws PIECE_ABSENT. */
  read(piece: number, offset: number, into: Uint8Array, options: { signal: AbortSignal }): Promise<void>
  /** Whether children hear what is here, and so may ask for it by name. A seed keeps silent: it gives each piece once before any twice. */
  readonly announces: boolean
  /** What this child is given of it, which holds `childHas` now. Called once; the task's owner disposes it with the task. */
  give(childHas: ReadonlyBitmap): GivingTo
  /** Bytes of a piece were handed to the transport, whole. */
  sent(bytes: number): void
}
