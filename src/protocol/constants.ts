/**
 * What two nodes must agree on: protocol ids, limits and timeouts, each with the place it comes from. A change here is a
 * change of protocol.
 */

const KIB = 1024
const MIB = 1024 * KIB

/** Most bytes of one frame's payload, unless a protocol names a smaller bound. */
export const MAX_FRAME_BYTES = MIB

/** Nested arrays and maps in one message; our deepest schema has six. */
export const MAX_CBOR_DEPTH = 16

/** Values in one message, counting keys: bounds what a small frame may unfold to in memory. */
export const MAX_CBOR_ITEMS = 128 * KIB

/** Most bytes of a greeting's frame: all that is read of a peer that has proven nothing but its PeerId. */
export const MAX_GREETING_BYTES = 8 * KIB

/** Values in a greeting, counting keys. */
export const MAX_GREETING_ITEMS = 256

/** How long a peer that connected may take until its greeting was accepted, or its first pass. */
export const GREETING_MS = 10_000

/** yamux spec, "Flow Control": every stream starts with this window; the implementation can't announce a larger one. */
export const YAMUX_INITIAL_WINDOW_BYTES = 256 * KIB

/** The window may grow to this; it bounds what a stream that nobody reads can hold, and its rate at window / RTT. */
export const YAMUX_MAX_WINDOW_BYTES = MIB

/** A paused stream above this is reset; must stay above the window, or a warm stream dies when its reader pauses. */
export const STREAM_READ_LIMIT_BYTES = 4 * MIB

/** A stream is written in chunks of this size, so that at most one chunk waits inside the muxer. */
export const STREAM_CHUNK_BYTES = 64 * KIB

/**
 * A side of a session that sent nothing for this long sends an empty frame. Every frame costs its sender a write and its receiver
 * a window update, so this is what a supernode pays for thousands of idle agents.
 */
export const HEARTBEAT_MS = 2000

/**
 * A session that received nothing for this long is dead. On a slow link with a full queue, a lost frame arrives after several seconds. With
 * a shorter time honest hosts would lose their supernode while everything works. The children of a host that dies stop asking it long
 * before.
 */
export const DEAD_MS = 12_000

/** How often a session looks at its clocks. */
export const TICK_MS = 500

/** A write to a session that doesn't move for this long ends it, heartbeats or not. */
export const WRITE_STALL_MS = 10_000

/** Asks that one side of a session may have open; one more is a protocol violation. */
export const MAX_OPEN_ASKS = 256

/** Asks of one session that are handled at the same time; the others wait in line. */
export const MAX_SERVED_ASKS = 32

/** Encoded bytes that wait for one session's receiver; more ends the session. */
export const MAX_QUEUED_BYTES = 8 * MIB

/** How long an ask waits for its answer when the asker names no other time. */
export const ASK_TIMEOUT_MS = 15_000
