/** What pointing a container client at the mirror changes in its configuration: whole texts, before anything is written. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError, systemCode } from '../../core/errors.ts'

export interface SetupUpstream {
  readonly name: string
  readonly url: string
}

export interface SetupTarget {
  /** The mirror's IP:PORT, as a client reaches it. */
  readonly mirror: string
  /** `http`, or `https` with the authority that signed the mirror's certificate, if clients must trust it. */
  readonly scheme: 'http' | 'https'
  readonly authority?: { readonly path: string; readonly pem: string } | undefined
  readonly upstreams: readonly SetupUpstream[]
  /** A person named these upstreams; else they are all that the agent's mirror reaches. */
  readonly chosen: boolean
  /** What a person has to know of the agent that serves it, before a client depends on it. */
  readonly troubles: readonly DarnerError[]
  /** No agent answered, so that where the mirror is or what it reaches is what is usual. */
  readonly guessed: boolean
  /** What stands for `/`: another folder for images and tests. */
  readonly root: string
}

export interface Edit {
  /** As the client names it: `/etc/docker/daemon.json`. */
  readonly path: string
  /** Undefined when there is no such file. */
  readonly before: string | undefined
  readonly after: string
}

export interface Plan {
  readonly edits: readonly Edit[]
  /** What a person has to know or do besides. */
  readonly notes: readonly string[]
}

/** One kind of client. `remove` takes what a plan wrote out of a text that was changed since; undefined deletes the file. */
export interface ClientSetup {
  plan(target: SetupTarget): Promise<Plan>
  remove(path: string, text: string, mirror: string): string | undefined
}

export const BEGIN = '# darner mirror: begin'
export const END = '# darner mirror: end'

/** Lines between marks, which {@link removeBlock} finds again. */
export function block(lines: readonly string[]): string {
  return `${[BEGIN, ...lines, END].join('\n')}\n`
}

/** The text without marked blocks, and without the empty line that was put beside each. */
export function removeBlock(text: string): string {
  return text.replaceAll(new RegExp(`\\n?${BEGIN}\\n[\\s\\S]*?${END}\\n`, 'g'), '')
}

/** A file below the root; undefined when it isn't there. Throws HOST_UNABLE when it can't be read. */
export async function readBelow(root: string, path: string): Promise<string | undefined> {
  try {
    return await readFile(join(root, path), 'utf8')
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new DarnerError('HOST_UNABLE', `read ${path}: ${code ?? String(error)}`, { cause: error })
  }
}

/** What makes a client with a `certs.d` folder trust the mirror's certificate; nothing where it needs no telling. */
export async function trustEdits(folder: string, { mirror, authority, root }: SetupTarget): Promise<Edit[]> {
  if (authority === undefined) return []
  const path = `${folder}/${mirror}/darner-mirror.crt`
  return [{ path, before: await readBelow(root, path), after: authority.pem }]
}

const NAME = /^[A-Za-z0-9.-]+(:\d{1,5})?(\/[a-z0-9._/-]+)?$/

/** Throws BAD_ARGUMENT for a name that can't stand in a configuration file. */
export function checkedName(name: string): string {
  if (NAME.test(name) && !name.includes('..')) return name
  throw new DarnerError('BAD_ARGUMENT', `upstream ${JSON.stringify(name.slice(0, 120))} is not the name of a registry`)
}

/** How a name stands in a path, where a colon can't. */
export function pathName(name: string): string {
  return name.replaceAll(':', '_')
}
