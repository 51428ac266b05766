/** What a command gets from the entry point: its streams, its signal, and the options that every command shares. */
import type { Readable, Writable } from 'node:stream'

/** One line on stderr per record, only under `--debug`; commands that run a daemon open their own pino log. */
export interface CommandLog {
  debug(fields: Readonly<Record<string, unknown>>, message: string): void
}

export interface CommandContext {
  /** The agent's unix socket: `--socket`, else `DARNER_SOCKET`, else {@link DEFAULT_SOCKET}. */
  readonly socket: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  /** Aborted by SIGINT and SIGTERM (reason INTERRUPTED) and by `--timeout` (a TimeoutError). */
  readonly signal: AbortSignal
  readonly log: CommandLog
  /** `--json`: the result as JSON on stdout, nothing else there. */
  readonly json: boolean
  /** `--debug`: the chain of causes after an error's line. */
  readonly debug: boolean
  /** True when stderr is a terminal, so that progress may be drawn. */
  readonly interactive: boolean
}

/**
 * What each `src/cli/commands/<name>.ts` exports as `action`. `args` are the positional arguments, `options` the parsed flags
 * under their camel-case names. Resolves with the exit code; a rejection is printed as one line and mapped by the code table.
 */
export type Action = (args: string[], options: Record<string, unknown>, context: CommandContext) => Promise<number>

export const DEFAULT_SOCKET = '/run/darner/agent.sock'
