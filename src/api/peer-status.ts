/** `GET /v1/peer` of the agent's HTTP API on its unix socket: what its peer does now. */
import type { PeerId } from '../core/contracts/exchange.ts'

export interface PeerStatus {
  readonly peer: PeerId
  readonly multiaddrs: readonly string[]
  /** `IP:PORT` where its bulk lane listens. */
  readonly lanes: readonly string[]
  readonly supernode: { readonly peer: PeerId; readonly connected: boolean; readonly trouble?: string }
  readonly bytes: { readonly sent: number }
  readonly tasks: readonly PeerTaskStatus[]
}

/** A task of which something is here. */
export interface PeerTaskStatus {
  readonly task: string
  readonly bytes: number
  readonly pieces: number
  readonly have: number
  readonly complete: boolean
  /** What its download does now; absent when none runs. */
  readonly state?: string
  /** Why a half-done task can't go on, where that is known. */
  readonly trouble?: string
}
