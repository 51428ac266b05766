/** The Docker Engine API for this program's commands: the agent has it on its own socket too, whether docker's is on or off. */
import type { IncomingMessage } from 'node:http'
import { DOCKER_PREFIX } from '../api/docker-prefix.ts'
import { DarnerError } from '../core/errors.ts'
import { AgentClient, type Method, type RequestOptions } from './client.ts'

/** A line of an answer that reports progress: pull, push, load, import. */
export interface ProgressLine {
  readonly status?: string
  readonly stream?: string
  readonly id?: string
  readonly progress?: string
  readonly error?: string
  readonly aux?: Readonly<Record<string, unknown>>
}

/** Every method throws AGENT_UNREACHABLE, or what the agent refused: NOT_FOUND, CONFLICT, BAD_ARGUMENT, UNSUPPORTED, INTERNAL. */
export class DockerClient {
  readonly #agent: AgentClient

  constructor(options: { socket: string }) {
    this.#agent = new AgentClient(options)
  }

  json<T = unknown>(method: Method, path: string, options: RequestOptions): Promise<T> {
    return this.#agent.json<T>(method, DOCKER_PREFIX + path, options)
  }

  /** The answer as it comes, its status already checked. The caller reads or destroys it. */
  open(method: Method, path: string, options: RequestOptions): Promise<IncomingMessage> {
    return this.#agent.open(method, DOCKER_PREFIX + path, options)
  }

  /** JSON values, one a line. */
  lines<T = ProgressLine>(method: Method, path: string, options: RequestOptions): AsyncGenerator<T, void, undefined> {
    return this.#agent.lines<T>(method, DOCKER_PREFIX + path, options)
  }

  /** Lines that end in a failure when one of them says so. */
  async *progress(method: Method, path: string, options: RequestOptions): AsyncGenerator<ProgressLine> {
    for await (const line of this.lines(method, path, options)) {
      if (typeof line.error === 'string') throw new DarnerError('INTERNAL', line.error)
      yield line
    }
  }
}

/** docker's `filters` of words `NAME=VALUE`. Throws BAD_ARGUMENT. */
export function filtersOf(words: readonly string[]): { filters?: string } {
  if (words.length === 0) return {}
  const found: Record<string, string[]> = {}
  for (const word of words) {
    const at = word.indexOf('=')
    if (at < 1) throw new DarnerError('BAD_ARGUMENT', `filter ${JSON.stringify(word)}: expected NAME=VALUE`)
    const name = word.slice(0, at)
    found[name] = [...(found[name] ?? []), word.slice(at + 1)]
  }
  return { filters: JSON.stringify(found) }
}

/** A name within a path; image names keep their slashes. */
export function pathPart(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/')
}
