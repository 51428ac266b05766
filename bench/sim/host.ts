/** One simulated host: its links, what waits for its uplink, and its real plan. */
import type { Plan } from '../../peer/downloader/plan.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import type { Handout, Seat } from '../../src/exchange/handout/handout.ts'

/** A question for a named piece that waits for a parent's uplink. */
export interface Waiting {
  readonly seat: Seat<number>
  readonly piece: number
}

/** A piece on its way to a host. Instants are milliseconds: its first bytes here, its last bytes out, its turn at the downlink. */
export interface Arrival {
  readonly id: number
  readonly parent: number
  readonly piece: number
  bytes: number
  readonly fromMs: number
  readonly upEndMs: number
  startMs: number
  downEndMs: number
  /** When it is verified. */
  arriveMs: number
  /** Cancelled: it takes its time on the wire and is thrown away. */
  dropped: boolean
}

/** A host's place at a parent. */
export interface Place {
  readonly number: number
  readonly parent: Host
  readonly seat: Seat<number>
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
  /** Turns of the parents that it was told of, with or without a channel. */
  readonly turns: Map<number, number>
  readonly waiting: Waiting[]
  /** What its children have, but what {@link Hearing} keeps; and which of them wait for any piece, in the order they asked. */
  readonly handout: Handout<number>
  readonly asking: Seat<number>[]
  /** Its own places at its parents, by the numbers of those. */
  readonly places: Map<number, Place>
  /** Whom it tells: three numbers for each of {@link places}, of the parent, of the place, and 1 where that is in another zone. */
  readonly tells: number[]
  sending: boolean
  /** What its uplink sends now: to whom, which piece, until when, and a number that says whether that still holds. */
  sendSeat: Seat<number> | undefined
  sendPiece: number
  sendEndMs: number
  sendSerial: number
  downFreeMs: number
  readonly arrivals: Arrival[]
  /** Pieces to be announced. */
  readonly fresh: number[]
  announcing: boolean
  /** What it reported last, and when. */
  reported: number
  reportedMs: number
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
  handout: Handout<number>,
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
    turns: new Map(),
    waiting: [],
    handout,
    asking: [],
    places: new Map(),
    tells: [],
    sending: false,
    sendSeat: undefined,
    sendPiece: 0,
    sendEndMs: 0,
    sendSerial: 0,
    downFreeMs: 0,
    arrivals: [],
    fresh: [],
    announcing: false,
    reported: 0,
    reportedMs: 0,
    messages: 0,
    upBytes: 0,
    downBytes: 0,
    crossZoneBytes: 0,
  }
}
