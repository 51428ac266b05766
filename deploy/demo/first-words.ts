/** The first lines that a container prints. */

import type { EngineClient } from '../../src/cli/engine-client.ts'
import { withDeadline } from '../../src/core/signals.ts'

/** Not more lines than this. */
const MAX_LINES = 6
/** A container that prints nothing more counts as having said its first words. */
const WAIT_MS = 3000

export interface FirstWordsOptions {
  /** The line after which nothing more is expected; it is left out. */
  readonly last?: string
  readonly signal: AbortSignal
}

/** Its lines up to the last one expected, {@link MAX_LINES}, its end, or the end of the wait. Throws the agent's error. */
export async function firstWords(engine: EngineClient, id: string, options: FirstWordsOptions): Promise<string[]> {
  const { last, signal } = options
  const until = withDeadline(signal, WAIT_MS)
  const decoder = new TextDecoder()
  let text = ''
  const lines = () => text.split('\n').slice(0, -1)
  try {
    for await (const { bytes } of engine.logs(id, { follow: true }, { signal: until })) {
      text += decoder.decode(bytes, { stream: true })
      const now = lines()
      if (now.length >= MAX_LINES || (last !== undefined && now.includes(last))) break
    }
  } catch (error) {
    if (signal.aborted || !until.aborted) throw error
  }
  const all = lines()
  const end = last === undefined ? -1 : all.indexOf(last)
  return (end < 0 ? all : all.slice(0, end)).slice(0, MAX_LINES)
}
