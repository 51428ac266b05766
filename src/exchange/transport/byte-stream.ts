/** What the lane's frames run over: TLS sockets, or libp2p streams where no lane address answers. */
import type { PeerAddress, PeerId } from '../../core/contracts/exchange.ts'
import type { RoundTrip } from '../limits/pace.ts'

/** An ordered, authenticated pair of byte streams. One reader and one writer at a time. */
export interface ByteStream {
  /** Proven by the transport's handshake. */
  readonly remote: PeerId
  /** Bytes that have arrived so far, read or not. */
  readonly bytesRead: number
  /** Bytes that {@link readExactly} has so far, while it waits. */
  readonly filling: number
  /** Fills `into` from what has arrived already; false, and nothing taken, when that isn't enough. */
  fill(into: Uint8Array): boolean
  /** Fills `into`. Rejects with PEER_UNREACHABLE when the stream ends first, or with what aborted it. */
  readExactly(into: Uint8Array): Promise<void>
  /** How long what is written takes to be confirmed by the other side; undefined where nobody can tell. */
  roundTrip(): RoundTrip | undefined
  /** Resolves once the bytes are with the kernel (or the muxer) and the buffer may be used again. One call at a time. */
  write(bytes: Uint8Array): Promise<void>
  /** Sends what was written and closes. */
  end(): void
  /** Ends both directions now; what waits rejects with `error`. */
  abort(error: Error): void
}

export interface FrameTransport extends AsyncDisposable {
  /** Throws PEER_UNREACHABLE when no address of this transport answers as that peer. */
  dial(address: PeerAddress, options: { signal: AbortSignal }): Promise<ByteStream>
  /** Sets the receiver of connections that others dial; called once, before anything is dialled. */
  onInbound(handler: (stream: ByteStream) => void): void
}
