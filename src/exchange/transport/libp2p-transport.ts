/** The fallback: the lane's frames over libp2p streams, whose noise handshake has proven both peers already. */

import type { PeerAddress, PeerId } from '../../core/contracts/exchange.ts'
import { DarnerError, isDarnerError } from '../../core/errors.ts'
import type { Node } from '../../protocol/node.ts'
import type { PeerStream } from '../../protocol/stream.ts'
import type { ByteStream, FrameTransport } from './byte-stream.ts'
import { LANE_PROTOCOL } from './lane-frames.ts'

/** Streams of one connection that may be open towards us; a peer needs one. */
const MAX_INBOUND_STREAMS = 4
/** Long reads are cut so that slow progress is seen as progress. */
const SLICE_BYTES = 16 * 1024

export class Libp2pTransport implements FrameTransport {
  readonly #node: Node
  readonly #unhandle: Promise<() => Promise<void>>
  #handler: ((stream: ByteStream) => void) | undefined

  /** Starts to take streams of the lane's protocol. `node` stays its owner's. */
  constructor(parts: { node: Node }) {
    this.#node = parts.node
    this.#unhandle = this.#node.handle(LANE_PROTOCOL, (stream, peer) => this.#take(stream, peer), {
      maxInboundStreams: MAX_INBOUND_STREAMS,
    })
    // a failure to register surfaces at the end, and dialling works without
    this.#unhandle.catch(() => undefined)
  }

  onInbound(handler: (stream: ByteStream) => void): void {
    this.#handler = handler
  }

  async dial(address: PeerAddress, { signal }: { signal: AbortSignal }): Promise<ByteStream> {
    const connected = this.#node.peers.includes(address.peer)
    const target = connected ? address.peer : address.multiaddrs
    const { stream, peer } = await this.#node.openStream(target, LANE_PROTOCOL, { signal })
    if (peer !== address.peer) {
      const error = new DarnerError('PEER_UNREACHABLE', `${peer} answered in place of ${address.peer}`)
      stream.abort(error)
      throw error
    }
    return new Libp2pByteStream(stream, peer)
  }

  #take(stream: PeerStream, peer: PeerId): void {
    if (this.#handler === undefined) stream.abort(new DarnerError('CLOSED', 'lane: nobody takes streams'))
    else this.#handler(new Libp2pByteStream(stream, peer))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const unhandle = await this.#unhandle
    await unhandle()
  }
}

class Libp2pByteStream implements ByteStream {
  readonly remote: PeerId
  readonly #stream: PeerStream
  readonly #controller = new AbortController()
  #read = 0
  #filling = 0

  constructor(stream: PeerStream, peer: PeerId) {
    this.remote = peer
    this.#stream = stream
  }

  get bytesRead(): number {
    return this.#read
  }

  get filling(): number {
    return this.#filling
  }

  /** What has arrived is the muxer's until it is asked for. */
  fill(): boolean {
    return false
  }

  async readExactly(into: Uint8Array): Promise<void> {
    for (let at = 0; at < into.byteLength; at += SLICE_BYTES) {
      const slice = into.subarray(at, at + SLICE_BYTES)
      try {
        await this.#stream.readInto(slice, { signal: this.#controller.signal })
      } catch (error) {
        // the far side's end is, to a lane, the loss of the peer
        if (!isDarnerError(error, 'CLOSED') || this.#controller.signal.aborted) throw error
        throw new DarnerError('PEER_UNREACHABLE', `lane of peer ${this.remote}: the stream ended`, { cause: error })
      }
      this.#read += slice.byteLength
      this.#filling = at + slice.byteLength
    }
    this.#filling = 0
  }

  /** The connection below is libp2p's, and carries more than this. */
  roundTrip(): undefined {
    return undefined
  }

  /** Copies: the muxer keeps what it is given, and the lane uses its buffers again. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#stream.write(new Uint8Array(bytes), { signal: this.#controller.signal })
  }

  end(): void {
    void this.#stream.end({ signal: this.#controller.signal }).then(
      () => this.#stream[Symbol.asyncDispose](),
      (error: Error) => this.#stream.abort(error),
    )
  }

  abort(error: Error): void {
    if (this.#controller.signal.aborted) return
    this.#controller.abort(error)
    this.#stream.abort(error)
  }
}
