/** Core dumps by container: whose a process was that the kernel says dumped core, and the word of it. */
import { readFileSync } from 'node:fs'
import { DarnerError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import type { CoreDump } from '../../src/wire/local-api.ts'
import type { Containers } from '../containers/containers.ts'
import { openProcessEvents, type ProcessEvent } from './proc-events.ts'

/** Dumps that are still being written; one whose end was never told must not stay for ever. */
const MOST_UNDER_WAY = 1024

export interface CoreWatchParts {
  readonly containers: Pick<Containers, 'entries' | 'noteCoreDump'>
  readonly log: Log
}

/** Holds the kernel's word of core dumps. */
export interface CoreWatch extends Disposable {
  /** Why there is none on this host; undefined where there is. */
  readonly untold: string | undefined
}

/** Never throws: a host where the kernel doesn't tell is a host where it isn't told. */
export async function openCoreWatch({ containers, log }: CoreWatchParts): Promise<CoreWatch> {
  const dumps = new Dumps((pid) => ownerOf(pid, containers.entries()))
  try {
    const events = await openProcessEvents((event) => {
      const ended = dumps.take(event)
      if (!ended) return
      containers.noteCoreDump(ended.container, { ...ended.dump, at: Date.now() })
    })
    return { untold: undefined, [Symbol.dispose]: () => events[Symbol.dispose]() }
  } catch (error) {
    const untold = error instanceof DarnerError ? error.message : String(error)
    log.warn({ error }, 'core dumps are not told of')
    return { untold, [Symbol.dispose]: () => {} }
  }
}

/** Whose processes they are, told while they are there; and what came of each dump, told at its end. */
export class Dumps {
  readonly #ownerOf: (pid: number) => string | undefined
  readonly #underWay = new Map<number, { readonly container: string; readonly pid: number; readonly command: string }>()

  /** `ownerOf` is the container of a process of this host. */
  constructor(ownerOf: (pid: number) => string | undefined) {
    this.#ownerOf = ownerOf
  }

  /** The dump that is over now, if that was one of a container. */
  take(event: ProcessEvent): { readonly container: string; readonly dump: Omit<CoreDump, 'at'> } | undefined {
    if (event.kind === 'core') {
      // one that writes nothing is quickly gone; its parent is mostly of the same container
      const container =
        this.#ownerOf(event.tgid) ?? (event.parent === undefined ? undefined : this.#ownerOf(event.parent))
      if (container === undefined) return undefined
      if (this.#underWay.size >= MOST_UNDER_WAY) this.#underWay.clear()
      this.#underWay.set(event.pid, { container, pid: event.tgid, command: textOf(event.tgid, 'comm').trimEnd() })
      return undefined
    }
    const begun = this.#underWay.get(event.pid)
    if (begun === undefined) return undefined
    this.#underWay.delete(event.pid)
    const { container, ...of } = begun
    return { container, dump: { ...of, signal: event.signal, written: event.written } }
  }
}

interface Known {
  readonly id: string
  readonly record: { readonly pid?: number | undefined }
}

/** By its first process, by the cgroup, or, for the conmon of one of its commands, by what that was started with. */
function ownerOf(pid: number, all: readonly Known[]): string | undefined {
  const known = new Set(all.map(({ id }) => id))
  const first = all.find(({ record }) => record.pid === pid)
  return (
    first?.id ?? containerInCgroup(textOf(pid, 'cgroup'), known) ?? containerOfConmon(textOf(pid, 'cmdline'), known)
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
