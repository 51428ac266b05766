/** Where the time of a round goes, by what agents log of each piece. Pure. */
import { median } from '../median.ts'

export interface Stages {
  /** From the start of the commands: the first piece is at a host… */
  readonly firstSeconds: number
  /** …the last piece is at its first host… */
  readonly spreadSeconds: number
  /** …and at its last. */
  readonly lastSeconds: number
  /** Of a piece, medians: from the offer that was taken to its first bytes, and from those to its last. */
  readonly waitMs: number
  readonly bodyMs: number
}

interface Stored {
  readonly time: number
  readonly piece: number
  readonly waitMs: number
  readonly bodyMs: number
}

/** `logs`: what each agent logged, an object a line. Numbers are NaN where nothing was logged of the task. */
export function stagesOf(logs: readonly string[], of: { taskId: string; beganAtMs: number }): Stages {
  const stored = logs.flatMap((log) => storedOf(log, of.taskId))
  const firsts = new Map<number, number>()
  for (const { piece, time } of stored) firsts.set(piece, Math.min(time, firsts.get(piece) ?? time))
  const seconds = (atMs: number) => (stored.length === 0 ? NaN : (atMs - of.beganAtMs) / 1000)
  return {
    firstSeconds: seconds(Math.min(...firsts.values())),
    spreadSeconds: seconds(Math.max(...firsts.values())),
    lastSeconds: seconds(Math.max(...stored.map(({ time }) => time))),
    waitMs: median(stored.map(({ waitMs }) => waitMs)),
    bodyMs: median(stored.map(({ bodyMs }) => bodyMs)),
  }
}

function storedOf(log: string, taskId: string): Stored[] {
  return log
    .split('\n')
    .filter((line) => line.includes('"piece stored"') && line.includes(taskId))
    .map((line) => JSON.parse(line) as Stored)
}
