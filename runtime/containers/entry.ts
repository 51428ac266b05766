/** One container in memory, and the observers of its runs. */
import type { ExitReply, TerminalSize } from '../../src/api/containers-api.ts'
import type { Outcome } from '../../src/core/outcome.ts'
import type { Bundle } from '../shim/bundle.ts'
import type { ContainerRecord } from './record.ts'
import type { WaitingSession } from './session.ts'

/** What is kept in memory of one container. */
export interface Entry {
  readonly id: string
  record: ContainerRecord
  /** There was no room for the record as it is: it is kept once there is. */
  unkept: boolean
  readonly bundle: Bundle
  readonly name: string
  /** Settles at the end of the present run or, when none is on, of the next one. */
  ended: Outcome<ExitReply>
  /** Sessions that attach at the next start. */
  readonly waiting: Set<WaitingSession>
  consoleSize: TerminalSize | undefined
  /** Settles when it is removed: with the last exit code. */
  readonly removed: Outcome<ExitReply>
  /** The delay before the last restart by the policy; 0 when none was. */
  restartDelayMs: number
  /** Cancels the restart that is due. */
  restartDue: AbortController | undefined
}

/** An observer of the begin and end of a container's process. */
export interface RunObserver {
  started(entry: Entry): void
  ended(entry: Entry): void
  /** Nobody finds it any more. */
  removed?(entry: Entry): void
}
