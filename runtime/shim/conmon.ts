/**
 * conmon: the small process that carries a container, so that it outlives the agent. It calls the runtime's `create` or
 * `exec`, holds stdio or the terminal, writes the log and, at the end, the exit code into a file.
 */
import { constants, readFileSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import type { TerminalSize } from '../../src/api/containers-api.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import type { Bundle } from './bundle.ts'
import { type OciRuntime, runtimeError } from './oci-runtime.ts'
import { missing, PROGRAM_ENV } from './program.ts'
import { type Spawned, spawnProgram } from './spawn.ts'

export interface ConmonRun {
  readonly id: string
  readonly bundle: Bundle
  readonly runtime: OciRuntime
  /** Folder where the exit code is written, in a file named like the container. */
  readonly exitDir: string
  /** Folder of this container alone where it is written first, as `exit`: memory, which a full disk leaves alone. */
  readonly exitCopyDir?: string
  readonly tty: boolean
  readonly stdin: boolean
  /** Where what it writes is kept. */
  readonly log?: 'json-file' | 'none' | 'journald'
  /** conmon begins the log anew after so much; absent: never. */
  readonly logStepBytes?: number
  /** Stdin stays open when the attached client leaves. */
  readonly keepStdin: boolean
  /** Called with conmon's pid before it does anything: the place to move it into a cgroup of its own. */
  readonly place: (pid: number) => Promise<void>
}

export interface ConmonExec extends Omit<ConmonRun, 'bundle' | 'keepStdin' | 'log'> {
  readonly execId: string
  /** The exec's own folder, laid out as a bundle. */
  readonly bundle: Bundle
  /** File with the process JSON (runtime-spec, config.md, "Process"). */
  readonly processFile: string
  /** Called once the attach socket listens and before the process starts: output before that would be lost. */
  readonly attach: () => Promise<void>
}

export interface Carried {
  readonly pid: number
  readonly conmonPid: number
}

export interface CarriedExec {
  readonly pid: number
  /** Resolves with the exit code when the process ended; 255 when conmon was lost. */
  readonly exited: Promise<number>
}

const SYNC_FD = 3
const START_FD = 4
const ATTACH_FD = 5
const MOST_MESSAGE_CHARS = 1 << 20
const SIGKILL = 9

/** A conmon that stands where it is to be and has done nothing yet. Disposing ends one that never got the order to go on. */
export interface ReadyConmon extends AsyncDisposable {
  /** Has it create the container; it is created, not started, when this resolves. Call once. Throws RUNTIME_FAILED quoting the runtime. */
  create(options: { signal: AbortSignal }): Promise<Carried>
}

/** Has conmon create the container. Throws RUNTIME_FAILED quoting the runtime, RUNTIME_MISSING. */
export async function createContainer(
  conmon: string,
  run: ConmonRun,
  options: { signal: AbortSignal },
): Promise<Carried> {
  await using ready = await readyConmon(conmon, run)
  return await ready.create(options)
}

/**
 * Starts a conmon that waits. Only the bundle's folder must be there: when this process ends, it goes on by itself, and fails where there
 * is no configuration. Throws RUNTIME_MISSING.
 */
export async function readyConmon(conmon: string, run: ConmonRun): Promise<ReadyConmon> {
  const args = [
    ...sharedArguments(run, run.id),
    ...['-n', run.id, '-l', logOf(run), ...logStep(run), '--exit-dir', run.exitDir, '--no-sync-log'],
    ...(run.exitCopyDir === undefined ? [] : ['--persist-dir', run.exitCopyDir]),
    ...(run.stdin && run.keepStdin ? ['--leave-stdin-open'] : []),
  ]
  const child = await launch(conmon, args, run, false)
  return {
    create: async ({ signal }) => {
      child.begin()
      return await carriedBy(child, run.bundle, `${run.runtime.options.name} create ${run.id}`, signal)
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  }
}

function logOf({ log, bundle }: ConmonRun): string {
  return log === undefined || log === 'json-file' ? `k8s-file:${bundle.log}` : log
}

const logStep = ({ logStepBytes }: Pick<ConmonRun, 'logStepBytes'>) =>
  logStepBytes === undefined ? [] : ['--log-size-max', String(logStepBytes)]

/**
 * Has conmon run one more process in a container. Its exit code is sent, not written to a file, so a full disk doesn't matter. Throws
 * RUNTIME_FAILED quoting the runtime, RUNTIME_MISSING.
 */
export async function execInContainer(
  conmon: string,
  run: Omit<ConmonExec, 'exitDir'>,
  { signal }: { signal: AbortSignal },
): Promise<CarriedExec> {
  const args = [
    ...sharedArguments(run, run.execId),
    ...['-n', run.id, '-l', 'none'],
    ...['--exec', '--exec-attach', '--exec-process-spec', run.processFile],
  ]
  const child = await launch(conmon, args, run, true)
  child.begin()
  try {
    await abortable(child.attachReady.next(), signal)
    await run.attach()
    child.start.write('\n')
    const pid = await abortable(child.sync.next(), signal)
    if (pid.data <= 0) throw runtimeError(`${run.runtime.options.name} exec in ${run.id}`, pid.message)
    const exited = child.sync.next().then(
      (exit) => exit.data,
      () => 255,
    )
    void exited.finally(() => child[Symbol.asyncDispose]())
    return { pid: pid.data, exited }
  } catch (error) {
    await child[Symbol.asyncDispose]()
    throw error
  }
}

/**
 * Has conmon run one more process in a container with nobody attached. Its output goes to `bundle.log`, its exit code into a file of
 * `exitDir` named like the container. It outlives the agent. Throws RUNTIME_FAILED quoting the runtime, RUNTIME_MISSING.
 */
export async function execDetached(
  conmon: string,
  run: Omit<ConmonExec, 'attach' | 'tty' | 'stdin'>,
  { signal }: { signal: AbortSignal },
): Promise<Carried> {
  const args = [
    ...sharedArguments({ ...run, tty: false, stdin: false }, run.execId),
    ...['-n', run.id, '-l', `k8s-file:${run.bundle.log}`, ...logStep(run)],
    ...['--exit-dir', run.exitDir, '--no-sync-log'],
    ...['--exec', '--exec-process-spec', run.processFile],
  ]
  await using child = await launch(conmon, args, run, false)
  child.begin()
  return await carriedBy(child, run.bundle, `${run.runtime.options.name} exec in ${run.id}`, signal)
}

/** The pids of a process and of its conmon. What was launched writes the latter before it ends, which may be after the other one's answer. */
async function carriedBy(child: Launched, bundle: Bundle, what: string, signal: AbortSignal): Promise<Carried> {
  const pid = await abortable(child.sync.next(), signal)
  await abortable(child.parentExited, signal)
  if (pid.data <= 0) throw runtimeError(what, pid.message)
  return { pid: pid.data, conmonPid: Number(readFileSync(bundle.conmonPidFile, 'utf8')) }
}

/** Tells conmon the terminal's new size. Nothing happens when it is gone. */
export async function resizeTerminal(bundle: Bundle, size: TerminalSize): Promise<void> {
  await control(bundle, `1 ${size.rows} ${size.columns}\n`)
}

/** Tells conmon to open its log file anew, after it was renamed. Nothing happens when it is gone. */
export async function reopenLog(bundle: Bundle): Promise<void> {
  await control(bundle, '2 0 0\n')
}

/** True while the conmon that carries `id` lives: its pid may have gone to somebody else after a reboot. */
export async function conmonAlive(conmonPid: number, id: string): Promise<boolean> {
  try {
    const argv = (await readFile(`/proc/${conmonPid}/cmdline`, 'utf8')).split('\0')
    return argv.includes(id) && (argv[0] ?? '').includes('conmon')
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ESRCH') return false
    throw error
  }
}

async function control(bundle: Bundle, line: string): Promise<void> {
  try {
    const file = await open(bundle.control, constants.O_WRONLY | constants.O_NONBLOCK)
    try {
      await file.write(line)
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = systemCode(error)
    if (code !== 'ENXIO' && code !== 'ENOENT' && code !== 'EPIPE') throw error
  }
}

function sharedArguments(
  run: Pick<ConmonRun, 'id' | 'bundle' | 'runtime' | 'tty' | 'stdin'>,
  unique: string,
): string[] {
  return [
    ...['--api-version', '1', '-c', run.id, '-u', unique, '-r', run.runtime.program],
    ...['-b', run.bundle.path, '-p', run.bundle.pidFile, '-P', run.bundle.conmonPidFile, '--full-attach'],
    ...run.runtime.globalArguments.flatMap((one) => ['--runtime-arg', one]),
    ...(run.tty ? ['-t'] : []),
    ...(run.stdin ? ['-i'] : []),
  ]
}

interface Launched extends AsyncDisposable {
  readonly sync: MessageReader
  readonly attachReady: MessageReader
  readonly start: Writable
  /** It waits for this word. One that is disposed without it is ended. */
  begin(): void
  /** The launched process forks and ends; this is that end. */
  readonly parentExited: Promise<void>
}

async function launch(
  path: string,
  args: readonly string[],
  run: Pick<ConmonRun, 'bundle' | 'place'>,
  exec: boolean,
): Promise<Launched> {
  const env = {
    ...PROGRAM_ENV,
    _OCI_SYNCPIPE: String(SYNC_FD),
    _OCI_STARTPIPE: String(START_FD),
    ...(exec ? { _OCI_ATTACHPIPE: String(ATTACH_FD) } : {}),
  }
  let child: Spawned
  try {
    child = await spawnProgram(path, args, {
      detached: true,
      env,
      // it notes an out-of-memory kill in a file in its own folder
      cwd: run.bundle.path,
      stdio: ['ignore', 'ignore', 'writes', 'writes', 'reads', ...(exec ? (['writes'] as const) : [])],
    })
  } catch (error) {
    throw missing(path, error)
  }
  const streams = [...child.readers.values(), ...child.writers.values()]
  let complaint = ''
  child.readers
    .get(2)
    ?.setEncoding('utf8')
    .on('data', (chunk: string) => {
      if (complaint.length < 65_536) complaint += chunk
    })
  const parentExited = child.exited.then((code) => {
    if (code === 0) return
    throw new DarnerError('RUNTIME_FAILED', `conmon ended with ${code}: ${complaint.trim() || 'it said nothing'}`)
  })
  parentExited.catch(() => {}) // the waiter for a message gets the failure through the reader
  const start = child.writers.get(START_FD)
  const [sync, attach] = [child.readers.get(SYNC_FD), child.readers.get(exec ? ATTACH_FD : SYNC_FD)]
  if (!start || !sync || !attach) throw new DarnerError('INTERNAL', 'conmon was started without its pipes')
  start.on('error', () => {}) // EPIPE: conmon is gone, which the readers tell
  const reader = new MessageReader(sync, parentExited)
  const attachReady = new MessageReader(attach, parentExited, exec)
  await run.place(child.pid)
  let begun = false
  return {
    sync: reader,
    attachReady,
    start,
    parentExited,
    begin() {
      begun = true
      start.write('\n')
    },
    async [Symbol.asyncDispose]() {
      if (!begun) child.kill(SIGKILL)
      for (const stream of streams) stream.destroy()
    },
  }
}

interface ConmonMessage {
  readonly data: number
  readonly message: string
}

/** Reads conmon's lines of JSON, `{"data": N, "message": "…"}`, one `next()` each. */
class MessageReader {
  #text = ''
  readonly #ready: ConmonMessage[] = []
  #waiting: PromiseWithResolvers<ConmonMessage> | undefined
  #failure: unknown

  constructor(stream: Readable, parentExited: Promise<void>, listen = true) {
    if (!listen) return
    stream.setEncoding('utf8')
    stream.on('data', (chunk: string) => this.#take(chunk))
    stream.on('error', (error) => this.#fail(error))
    stream.on('close', () => {
      parentExited.then(
        () => this.#fail(new DarnerError('RUNTIME_FAILED', 'conmon ended before it answered')),
        (error) => this.#fail(error),
      )
    })
  }

  next(): Promise<ConmonMessage> {
    const ready = this.#ready.shift()
    if (ready) return Promise.resolve(ready)
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#waiting = Promise.withResolvers()
    return this.#waiting.promise
  }

  #take(chunk: string): void {
    this.#text += chunk
    if (this.#text.length > MOST_MESSAGE_CHARS) {
      this.#fail(new DarnerError('RUNTIME_FAILED', `conmon sent more than ${MOST_MESSAGE_CHARS} characters`))
      return
    }
    for (let at = this.#text.indexOf('\n'); at >= 0; at = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, at).trim()
      this.#text = this.#text.slice(at + 1)
      if (line === '') continue
      try {
        const json = JSON.parse(line) as { data?: unknown; message?: unknown }
        this.#give({ data: Number(json.data), message: String(json.message ?? '') })
      } catch (error) {
        this.#fail(
          new DarnerError('RUNTIME_FAILED', `conmon sent ${JSON.stringify(line.slice(0, 200))}`, { cause: error }),
        )
      }
    }
  }

  #give(message: ConmonMessage): void {
    if (this.#waiting) this.#waiting.resolve(message)
    else this.#ready.push(message)
    this.#waiting = undefined
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    this.#waiting?.reject(error)
    this.#waiting = undefined
  }
}
