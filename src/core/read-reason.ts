/**
 * Why bytes are read at an origin. Each read has exactly one of these reasons. `darner why` shows it, so that an operator can tell what
 * each copy was for.
 */
import type { Code } from './errors.ts'

export type ReadReason =
  /** The seed reads it, for all. */
  | 'first read'
  | 'first read, of an origin that tells no length'
  /** The seed's read broke, and it went on at the next byte; `read on` after a host had read for it meanwhile. */
  | `retry after ${Code}`
  | `read on after ${Code}`
  /** Whether another place serves the same content, which gives a right to it. */
  | `proof that ${string} holds it`
  /** A host reads it, for all. */
  | 'first to ask, for all'
  | 'origin lease: the supernode could not read it'
  | 'supernode lost: for all neighbours'
  /** A host reads it for itself, since the swarm could not be asked. */
  | `${Code}: ${string}`
  /** The supernode read it from the host that gave it to the swarm. */
  | `put by ${string}`
