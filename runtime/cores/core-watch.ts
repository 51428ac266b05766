/** Core dumps by container: the owner of each process that dumped core, as the kernel reports it. */
import { readFileSync } from 'node:fs'
import type { CoreDump } from '../../src/api/containers-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import type { Containers } from '../containers/containers.ts'
import type { Carried } from './carried.ts'
import { openProcessEvents, type ProcessEvent } from './proc-events.ts'

/** Dumps that are still being written, and those without a known owner: a host that crashes all the time costs no more. */
const MOST_UNDER_WAY = 1024
/** A process that crashes as it begins may be gone before the engine learns that it had begun. */
const ASK_AGAIN_MS = [100, 1000, 5000] as const

export interface CoreWatchParts {
  readonly containers: Pick<Containers, 'entries' | 'noteCoreDump'>
  readonly carried: Carried
  readonly clock: Clock
  readonly log: Log
}

/** Holds the kernel's word of core dumps. */
export interface CoreWatch extends AsyncDisposable {
  /** Why there is none on this host; undefined where there is. */
  readonly untold: string | undefined
}

/** Never throws: where the kernel doesn't report dumps, the engine doesn't either. */
export async function openCoreWatch({ containers, carried, clock, log }: CoreWatchParts): Promise<CoreWatch> {
  const scope = new Scope()
  const dumps = new Dumps((pid) =>
    ownerOf(
      pid,
      containers.entries().map(({ id }) => id),
      carried,
    ),
  )
  const tell = ({ container, dump }: Told, at: number) => containers.noteCoreDump(container, { ...dump, at })
  try {
    const events = await openProcessEvents((event) => {
      const at = clock.now()
      const over = dumps.take(event)
      if (over?.container !== undefined) tell({ ...over, container: over.container }, at)
      else if (over !== undefined) {
        scope.run(async (signal) => {
          const container = await dumps.settle(over, clock, { signal })
          if (container !== undefined) tell({ ...over, container }, at)
        })
      }
    })
    scope.defer(() => events[Symbol.dispose]())
    return { untold: undefined, [Symbol.asyncDispose]: () => scope.close() }
  } catch (error) {
    log.warn({ error }, 'core dumps are not told of')
    return { untold: asDarnerError(error, 'core dumps').message, [Symbol.asyncDispose]: () => scope.close() }
  }
}

interface Told {
  readonly container: string
  readonly dump: Omit<CoreDump, 'at'>
}

interface Begun extends Pick<CoreDump, 'pid' | 'command'> {
  readonly container: string | undefined
  readonly parent: number | undefined
}

interface Over extends Pick<Begun, 'container' | 'parent'>, Pick<Told, 'dump'> {}

/** The containers of crashing processes, learned while they exist, and the result of each dump, reported at its end. */
export class Dumps {
  readonly #ownerOf: (pid: number) => string | undefined
  readonly #underWay = new Map<number, Begun>()
  #asked = 0

  /** `ownerOf` is the container of a process of this host. */
  constructor(ownerOf: (pid: number) => string | undefined) {
    this.#ownerOf = ownerOf
  }

  /** The dump that is over now. Without a container it is one of the host's, or nobody knows yet: {@link settle} does. */
  take(event: ProcessEvent): Over | undefined {
    if (event.kind === 'core') {
      const { pid, tgid, parent } = event
      if (this.#underWay.size >= MOST_UNDER_WAY) this.#underWay.clear()
      const command = textOf(tgid, 'comm').trimEnd()
      this.#underWay.set(pid, { container: this.#ownerOfEither(tgid, parent), pid: tgid, parent, command })
      return undefined
    }
    const begun = this.#underWay.get(event.pid)
    if (begun === undefined) return undefined
    this.#underWay.delete(event.pid)
    const { container, parent, ...of } = begun
    return { container, parent, dump: { ...of, signal: event.signal, written: event.written } }
  }

  /** Asks again for a while about the owner of a process that is gone. */
  async settle(
    { dump: { pid }, parent }: Omit<Over, 'container'>,
    clock: Pick<Clock, 'sleep'>,
    { signal }: { signal: AbortSignal },
  ): Promise<string | undefined> {
    if (this.#asked >= MOST_UNDER_WAY) return undefined
    this.#asked++
    try {
      for (const pauseMs of ASK_AGAIN_MS) {
        await clock.sleep(pauseMs, { signal })
        const container = this.#ownerOfEither(pid, parent)
        if (container !== undefined) return container
      }
      return undefined
    } finally {
      this.#asked--
    }
  }

  /** One that writes nothing is quickly gone; its parent is mostly of the same container. */
  #ownerOfEither(pid: number, parent: number | undefined): string | undefined {
    return this.#ownerOf(pid) ?? (parent === undefined ? undefined : this.#ownerOf(parent))
  }
}

/** By what the engine started, by the cgroup, or, for the conmon of a command, by what that was started with. */
function ownerOf(pid: number, all: readonly string[], carried: Carried): string | undefined {
  const known = new Set(all)
  return (
    carried.ownerOf(pid) ??
    containerInCgroup(textOf(pid, 'cgroup'), known) ??
    containerOfConmon(textOf(pid, 'cmdline'), known)
  )
}

/** From a text of proc_pid_cgroup(5): the outermost folder counts, since those below it are the container's own to name. */
export function containerInCgroup(text: string, known: ReadonlySet<string>): string | undefined {
  for (const line of text.split('\n')) {
    const found = line.split('/').find((one) => known.has(one))
    if (found !== undefined) return found
  }
  return undefined
}

/** From the command line of a conmon, its words ended by NUL. */
export function containerOfConmon(commandLine: string, known: ReadonlySet<string>): string | undefined {
  const [program = '', ...words] = commandLine.split('\0')
  const id = words[words.indexOf('-c') + 1]
  return /(^|\/)conmon$/.test(program) && words.includes('-c') && id !== undefined && known.has(id) ? id : undefined
}

/** A short read of the kernel's own memory, so it isn't worth a thread, and may come in time. Empty for a process that is gone. */
function textOf(pid: number, name: 'comm' | 'cgroup' | 'cmdline'): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch {
    return '' // ENOENT, ESRCH
  }
}
