/** A container in docker's lists. */
import { cut, plain } from './words.ts'

const MOST_COMMAND_CHARS = 20

export interface ListedContainer {
  readonly Id: string
  readonly Names: readonly string[]
  readonly Image: string
  readonly Command: string
  /** Epoch seconds. */
  readonly Created: number
  readonly State: string
  readonly Status: string
  readonly SizeRw?: number
}

export function namesOf({ Names }: ListedContainer): string {
  return Names.map((name) => name.replace(/^\//, '')).join(',')
}

/** As a column shows it, or `whole`. */
export function commandOf({ Command }: ListedContainer, { whole = false }: { whole?: boolean } = {}): string {
  const command = plain(Command)
  return whole ? command : cut(command, MOST_COMMAND_CHARS)
}
