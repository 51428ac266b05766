/** Runs programs: one to its end, or one whose output is read while it runs. No shell. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable, withDeadline } from '../../src/core/signals.ts'

const TAIL = 4000

export interface RunOptions {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly signal: AbortSignal
}

/** Runs a program to its end; returns its stdout. Throws COMMAND_FAILED with its last words. The signal kills it. */
export async function run(argv: readonly string[], options: RunOptions): Promise<string> {
  const { input, signal, ...rest } = options
  signal.throwIfAborted()
  const [program = '', ...args] = argv
  const child = spawn(program, args, { ...rest, stdio: ['pipe', 'pipe', 'pipe'], signal, killSignal: 'SIGKILL' })
  child.stdin.on('error', () => {}) // EPIPE: it ended without reading, and its exit code says how
  child.stdin.end(input ?? '')
  const out: Buffer[] = []
  let errors = ''
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-TAIL)
  })
  const code = await endOf(child, 'close')
  signal.throwIfAborted()
  const stdout = Buffer.concat(out).toString()
  if (code !== 0) throw failure(argv, code, errors.trim() === '' ? stdout.slice(-TAIL) : errors)
  return stdout
}

export function failure(argv: readonly string[], code: number | string, said: string): DarnerError {
  const last = said.trim().split('\n').slice(-3).join(' | ')
  return new DarnerError('COMMAND_FAILED', `${argv.slice(0, 3).join(' ')} ended with ${code}: ${last}`)
}

/** Its exit code, or the name of the signal that ended it. `exit`: when it is gone; `close`: when its output is read, too. */
export function endOf(child: ChildProcess, event: 'exit' | 'close' = 'exit'): Promise<number | string> {
  if (event === 'exit' && (child.exitCode !== null || child.signalCode !== null))
    return Promise.resolve(child.exitCode ?? child.signalCode ?? 0)
  return new Promise((resolve, reject) => {
    child.once(event, (code: number | null, how: string | null) => resolve(code ?? how ?? 0))
    child.once('error', (error) => {
      if (child.pid === undefined)
        reject(new DarnerError('COMMAND_FAILED', `cannot run ${child.spawnfile}: ${error.message}`, { cause: error }))
    })
  })
}

export interface DaemonOptions {
  readonly name: string
  readonly argv: readonly string[]
  /** Gets its stderr, and its stdout where `stdout` isn't read. */
  readonly logFile: string
  readonly env?: NodeJS.ProcessEnv
  readonly signal: AbortSignal
}

/** How long a daemon may take to say that it is ready. */
const READY_MS = 30_000

/** A program that runs until it is stopped. Disposing kills it; where it is a stage, all that runs there ends with it. */
export class Daemon implements AsyncDisposable {
  readonly name: string
  readonly child: ChildProcess
  readonly #logFile: string
  readonly #lines: string[] = []
  readonly #first = Promise.withResolvers<string>()
  readonly #ended: Promise<number | string>

  constructor(options: DaemonOptions) {
    const [program = '', ...args] = options.argv
    this.name = options.name
    this.#logFile = options.logFile
    const log = openSync(options.logFile, 'a')
    try {
      this.child = spawn(program, args, { stdio: ['ignore', 'pipe', log], ...(options.env && { env: options.env }) })
    } finally {
      closeSync(log)
    }
    createInterface({ input: this.child.stdout as Readable }).on('line', (line) => {
      this.#first.resolve(line)
      this.#lines.push(line)
    })
    this.#ended = endOf(this.child)
    this.#ended.catch(() => {}) // told by whoever waits
  }

  /** All lines of its stdout so far. */
  get lines(): readonly string[] {
    return this.#lines
  }

  /** Its first line on stdout. Throws COMMAND_FAILED when it ends before, or says nothing in time. */
  async firstLine({ signal }: { signal: AbortSignal }): Promise<string> {
    try {
      return await abortable(Promise.race([this.#first.promise, this.died()]), withDeadline(signal, READY_MS))
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof DarnerError) throw error
      const said = await this.logTail()
      throw new DarnerError('TIMED_OUT', `${this.name} was not ready within ${READY_MS / 1000} s: ${said}`, {
        cause: error,
      })
    }
  }

  /** Rejects with its last words once it has ended. */
  died(): Promise<never> {
    const died = this.#ended.then(async (code) => {
      throw failure([this.name], code, await this.logTail())
    })
    died.catch(() => {}) // whoever holds it hears of it
    return died
  }

  /** The end of its log file. */
  async logTail(lines = 3): Promise<string> {
    const text = await readFile(this.#logFile, 'utf8').catch(() => '')
    return text.trim().split('\n').slice(-lines).join('\n')
  }

  /** Asks it to end (TERM); on a stage its first process is asked. False when the signal came first. */
  async end({ signal }: { signal: AbortSignal }): Promise<boolean> {
    const pid = this.child.pid ?? 0
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
    const inner = Number.parseInt(children, 10)
    try {
      // unshare, which holds a stage, passes no signals on
      process.kill(this.child.spawnfile === 'nsenter' && inner > 0 ? inner : pid, 'SIGTERM')
      await abortable(this.#ended, signal)
      return true
    } catch {
      return false // ESRCH or the signal's reason: disposing sees to the rest
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL')
    await this.#ended.catch(() => {})
  }
}
