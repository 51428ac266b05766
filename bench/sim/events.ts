/** What happens in a simulated swarm: the kinds of its events, with what their numbers `a`, `b`, `c` mean. */

/** Of a host `a` by itself. */
export const START = 0
export const TICK = 1
/** Tells its children of pieces that came. */
export const ANNOUNCE = 2
/** The piece on its uplink is out, if `b` is still its serial. */
export const SENT = 3
/** The arrival `b` is verified. */
export const GAINED = 4

/** Between a host and the supernode. News of parents reach host `a`; that host `a` is gone reaches the supernode. */
export const MESH = 5
export const DEAD = 6

/** A child `a` couldn't open its parent `b` again. */
export const UNREACHED = 20

/** Between a child and a parent. To a parent `a` from a child `b`: a question for piece `c`, or for any when that is negative. */
export const ASK = 7
/** …an answer to an offer: twice the piece, and one where it is taken… */
export const ANSWERED = 8
/** …piece `c` is not wanted any more. */
export const CANCELLED = 9
/** To a child `a` from a parent `b`: the channel is open, or is broken… */
export const OPENED = 10
export const CLOSED = 11
/** …an offer of piece `c`; the first bytes of a piece (`c`: twice the piece, and one where it wasn't offered). */
export const OFFERED = 12
export const STARTED = 13
/** What child `a` told of a piece (`b`: four times the piece, and one of the words below) reaches its parents, or those `c` far away. */
export const TOLD = 14

/** Of the world: the seed has read piece `a`; hosts leave and come; the last zone is cut off (`a`) or back. */
export const ORIGIN = 15
export const CHURN = 16
export const ZONE = 17
/** The supernode's own clock; a line of the trace. */
export const SUPER_TICK = 18
export const TRACE = 19

/** What a child tells of a piece. */
export const HERE = 0
export const COMING = 1
export const LOST = 2
/** That it is coming, told to those who can't give it yet. */
export const LATE = 3
