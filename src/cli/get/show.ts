/** What a person sees while it runs: a bar on a terminal, lines about what isn't as usual; nothing of it with `--quiet`. */

import type { ByteSources } from '../../core/contracts/content.ts'
import { errorLine } from '../../core/errors.ts'
import type { CommandContext } from '../context.ts'

export interface Sight {
  readonly bytes: number | undefined
  readonly have: number
  readonly from: ByteSources
}

/** One content's line. */
export interface Show {
  progress(sight: Sight): void
}

export interface Display {
  row(label: string): Show
  /** A line on stderr. */
  say(text: string): void
  done(): void
}

/** Bars for up to so many contents at once. */
export async function openDisplay(options: { quiet: boolean }, context: CommandContext): Promise<Display> {
  const say = options.quiet ? () => {} : (text: string) => void context.stderr.write(`darner: ${text}\n`)
  if (options.quiet || context.json || !context.interactive)
    return { row: () => ({ progress: () => {} }), say, done: () => {} }
  const { ProgressDisplay, RateMeter } = await import('../progress.ts')
  const bar = new ProgressDisplay(context.stderr)
  const rows = new Map<symbol, Parameters<typeof bar.update>[0][number]>()
  return {
    row: (label) => {
      const [own, meter] = [Symbol(label), new RateMeter()]
      return {
        progress: ({ bytes, have, from }) => {
          rows.set(own, { label, have, total: bytes, rate: meter.add(have, performance.now()), from })
          bar.update([...rows.values()])
          if (rows.size > 1 && have === bytes) rows.delete(own)
        },
      }
    },
    say,
    done: () => bar.done(),
  }
}

/** An error as a line to go on from: what failed, and what is done about it. */
export function goingOn(error: unknown, what: string): string {
  return `${errorLine(error)}: ${what}`
}
