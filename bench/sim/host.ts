/** One simulated host: its links, what waits for its uplink, and its real plan. */
import type { Plan } from '../../peer/engine/plan.ts'
import { Bitmap } from '../../src/task/bitmap.ts'

/** A question that waits for a parent's uplink; `piece` -1 is the seed's choice. */
export interface Waiting {
  readonly child: number
  readonly piece: number
  readonly any: boolean
}

export interface Host {
  readonly index: number
  readonly zone: number
  readonly slow: boolean
  /** Bytes per millisecond, each way. */
  readonly upRate: number
  readonly downRate: number
  plan: Plan<number> | undefined
  readonly have: Bitmap
  alive: boolean
  joinedMs: number
  /** 0 while it downloads. */
  doneMs: number
  /** Children with an open channel here. */
  readonly children: Set<number>
  /** Parents with an open channel from here. */
  readonly parents: Set<number>
  readonly waiting: Waiting[]
  sending: boolean
  /** What its uplink sends now: to whom, which piece, until when, and a number that says whether that still holds. */
  sendChild: number
  sendPiece: number
  sendEndMs: number
  sendSerial: number
  downFreeMs: number
  /** Times each piece left, for the `newest` order. */
  readonly sends: Uint16Array | undefined
  /** Pieces to be announced, with the instant they came. */
  readonly fresh: { piece: number; atMs: number }[]
  announcing: boolean
  reported: number
  messages: number
  upBytes: number
  downBytes: number
  crossZoneBytes: number
}

export function newHost(
  index: number,
  zone: number,
  slow: boolean,
  rate: number,
  pieces: number,
  countSends: boolean,
): Host {
  return {
    index,
    zone,
    slow,
    upRate: rate,
    downRate: rate,
    plan: undefined,
    have: new Bitmap(pieces),
    alive: false,
    joinedMs: 0,
    doneMs: 0,
    children: new Set(),
    parents: new Set(),
    waiting: [],
    sending: false,
    sendChild: 0,
    sendPiece: 0,
    sendEndMs: 0,
    sendSerial: 0,
    downFreeMs: 0,
    sends: countSends ? new Uint16Array(pieces) : undefined,
    fresh: [],
    announcing: false,
    reported: 0,
    messages: 0,
    upBytes: 0,
    downBytes: 0,
    crossZoneBytes: 0,
  }
}
