/**
 * What the logs of a container may hold. conmon keeps it, so that it holds also while the agent is away: a file that comes to its step
 * is begun anew. Not a project quota: a conmon that can't open its log ends, and its container with it.
 */
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { Bundle } from '../shim/bundle.ts'
import { rotateIfLong } from '../shim/rotate.ts'

export interface LogBound {
  /** All files of one log together. */
  readonly bytes: number
  /** The one that is written among them. */
  readonly files: number
  /** conmon begins the file anew after so much; one that is longer already at a start is put aside. */
  readonly stepBytes: number
}

type Asked = Pick<CreateRequest, 'logQuotaBytes' | 'diskQuota' | 'log' | 'services'>

/** conmon's least. */
const LEAST_STEP_BYTES = 8192

/**
 * Of the container's log and of each side service's alike, which share what is allowed. Undefined where nothing is asked for, and for a
 * log that darner doesn't keep.
 */
export function logBoundOf({ logQuotaBytes, diskQuota, log, services }: Asked): LogBound | undefined {
  const all = logQuotaBytes ?? diskQuota?.bytes
  if (all === undefined || (log !== undefined && log.driver !== 'json-file')) return undefined
  const bytes = Math.floor(all / (1 + (services?.length ?? 0)))
  const files = Math.max(2, log?.maxFiles ?? 2)
  // a file was at most a step long when conmon opened it, and becomes at most a step longer
  return { bytes, files, stepBytes: Math.max(LEAST_STEP_BYTES, Math.floor(bytes / (2 * files))) }
}

/** What the logs of a container and of its side services may hold together; undefined where nothing bounds them. */
export function allLogBytesOf(request: Asked): number | undefined {
  const bound = logBoundOf(request)
  return bound && bound.bytes * (1 + (request.services?.length ?? 0))
}

/** Before conmon opens the log: puts one aside that has come to its step. */
export async function makeLogRoom(bundle: Bundle, { stepBytes, files }: LogBound): Promise<void> {
  await rotateIfLong(bundle, { maxBytes: stepBytes, maxFiles: files })
}
