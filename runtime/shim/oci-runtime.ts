/** The verbs of an OCI runtime (runtime-spec, runtime.md, "Operations"), for runc and crun: arguments in, error codes out. */
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'
import { endingDeadline } from '../../src/core/signals.ts'
import { missing, runProgram } from './program.ts'

export interface OciState {
  readonly status: 'creating' | 'created' | 'running' | 'stopped' | 'paused'
  readonly pid: number
}

export interface OciRuntimeOptions {
  /** As requests name it: `runc`, `crun`. */
  readonly name: string
  /** Absolute path of the program. */
  readonly path: string
  /** The path that it is started by, where that is another one. */
  readonly program?: string
  /** Folder of the runtime's own state. */
  readonly root: string
  /** No verb takes longer; it is killed then. */
  readonly verbMs: number
}

/** One runtime program with one state folder. Every verb throws RUNTIME_FAILED quoting the runtime, NOT_FOUND for an unknown container. */
export class OciRuntime {
  readonly options: OciRuntimeOptions
  #said: { readonly file: string; readonly version: string } | undefined

  constructor(options: OciRuntimeOptions) {
    this.options = options
  }

  /** The path to start it by, also for conmon and hooks. */
  get program(): string {
    const { path, program = path } = this.options
    return existsSync(program) ? program : path
  }

  /** Global arguments, also for conmon, which calls `create` and `exec` itself. */
  get globalArguments(): string[] {
    return ['--root', this.options.root, '--log-format', 'json']
  }

  async start(id: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#verb(['start', id], signal)
  }

  /** Sends a signal, by number, to the first process. True when it was there to take it. */
  async kill(id: string, signalNumber: number, { signal }: { signal: AbortSignal }): Promise<boolean> {
    try {
      await this.#verb(['kill', id, String(signalNumber)], signal)
      return true
    } catch (error) {
      if (
        error instanceof DarnerError &&
        (error.code === 'NOT_FOUND' || /not running|no such process|process (already|not) f/i.test(error.message))
      )
        return false
      throw error
    }
  }

  /** True when the runtime keeps something under this id; both runtimes have a folder per container. No process is started. */
  holds(id: string): boolean {
    return existsSync(join(this.options.root, id))
  }

  /** Removes what the runtime keeps; `force` kills first. Unknown containers are fine. */
  async delete(id: string, { force, signal }: { force: boolean; signal: AbortSignal }): Promise<void> {
    try {
      await this.#verb(force ? ['delete', '--force', id] : ['delete', id], signal)
    } catch (error) {
      if (!(error instanceof DarnerError && error.code === 'NOT_FOUND')) throw error
    }
  }

  async pause(id: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#verb(['pause', id], signal)
  }

  /** Changes the limits of a running container; `file` holds the `resources` of the configuration as JSON. */
  async update(id: string, file: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#verb(['update', '--resources', file, id], signal)
  }

  /** Fine for one that isn't paused, since runc thaws by itself what it kills, or is gone: cgroup v2 lets KILL end what is frozen. */
  async resume(id: string, { signal }: { signal: AbortSignal }): Promise<void> {
    try {
      await this.#verb(['resume', id], signal)
    } catch (error) {
      if (!(error instanceof DarnerError && /not (been )?(paused|running)/i.test(error.message))) throw error
    }
  }

  /** `NAME version NUMBER`, as the program says it; asked again when it is another file than the last time. */
  async version({ signal }: { signal: AbortSignal }): Promise<string> {
    const { path } = this.options
    const { ino, mtimeMs, size } = await stat(path).catch((error: unknown) => {
      throw missing(path, error)
    })
    const file = `${ino} ${mtimeMs} ${size}`
    if (this.#said?.file === file) return this.#said.version
    const { code, stdout } = await runProgram(path, ['--version'], { signal })
    const version = stdout.split('\n')[0] ?? ''
    if (code === 0) this.#said = { file, version }
    return version
  }

  /** Undefined when the runtime doesn't know it. */
  async state(id: string, { signal }: { signal: AbortSignal }): Promise<OciState | undefined> {
    try {
      const state = JSON.parse(await this.#verb(['state', id], signal)) as OciState
      return { status: state.status, pid: state.pid }
    } catch (error) {
      if (error instanceof DarnerError && error.code === 'NOT_FOUND') return undefined
      throw error
    }
  }

  async #verb(args: readonly string[], signal: AbortSignal): Promise<string> {
    const { name, verbMs } = this.options
    using deadline = endingDeadline(signal, verbMs)
    const result = await runProgram(this.program, [...this.globalArguments, ...args], { signal: deadline.signal })
    if (result.code === 0) return result.stdout
    throw runtimeError(`${name} ${args.join(' ')}`, result.stderr || `exit code ${result.code}`)
  }
}

/** RUNTIME_FAILED, or NOT_FOUND, out of what a runtime wrote. `what` names verb and container. */
export function runtimeError(what: string, output: string): DarnerError {
  const line = unrepeated(what, lastComplaint(output))
  const unknown = /container.*does not exist|error opening file.*status.*no such file|no such container/i.test(line)
  return new DarnerError(unknown ? 'NOT_FOUND' : 'RUNTIME_FAILED', `${what}: ${line}`)
}

/** Without `runc create failed:` at its head, which `what` says already. */
function unrepeated(what: string, line: string): string {
  const [name, verb] = what.split(' ', 2)
  const head = `${name} ${verb} failed: `
  return line.startsWith(head) ? line.slice(head.length) : line
}

/** The last error line of a runtime's output: JSON log lines, logrus text or plain text. */
export function lastComplaint(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  let last = ''
  for (const line of lines) {
    const text = messageOf(line)
    if (text.level === 'warning' && last !== '') continue
    if (text.message !== '') last = text.message
  }
  return (last || 'it said nothing').slice(0, 2000)
}

function messageOf(line: string): { message: string; level: string } {
  if (line.startsWith('{')) {
    try {
      const json = JSON.parse(line) as { msg?: unknown; level?: unknown }
      return { message: typeof json.msg === 'string' ? json.msg : line, level: String(json.level ?? 'error') }
    } catch {
      // SyntaxError: not a JSON line after all
    }
  }
  const found = /level=(\w+) msg="((?:[^"\\]|\\.)*)"/.exec(line)
  if (found) return { message: (found[2] ?? '').replaceAll('\\"', '"'), level: found[1] ?? 'error' }
  return { message: line, level: 'error' }
}
