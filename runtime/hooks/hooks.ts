/** The hooks of a container at each point of its run: in the order given, environment set, policy kept. */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { HookPoint } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { Noting, RunEnd, RunFacts } from '../rich/extension.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import { runHook } from './run-hook.ts'

export interface HooksParts {
  readonly clock: Clock
  readonly log: Log
}

/** Throws BAD_ARGUMENT for a hook inside at post-stop: there is no inside any more. */
export function checkHooks({ hooks = [] }: CreateRequest): void {
  for (const { at, where, command } of hooks) {
    if (at === 'post-stop' && where === 'inside') {
      throw new DarnerError('BAD_ARGUMENT', 'a post-stop hook runs on the host: the container is gone by then')
    }
    if (command.some((one) => one.includes('\0')) || command[0] === '') {
      throw new DarnerError('BAD_ARGUMENT', `${at} hook: its command is empty or has a NUL byte`)
    }
    if (where === 'host' && !command[0]?.startsWith('/')) {
      throw new DarnerError('BAD_ARGUMENT', `${at} hook: ${command[0]} on the host is not an absolute path`)
    }
  }
}

export class Hooks {
  readonly #parts: HooksParts

  constructor(parts: HooksParts) {
    this.#parts = parts
  }

  /**
   * Runs those of one point and one place. At pre-start and post-start a failing hook with policy `fail` (the default there)
   * throws COMMAND_FAILED, and later ones aren't run; elsewhere all run.
   */
  async run(
    at: HookPoint,
    where: 'host' | 'inside',
    facts: RunFacts,
    context: { readonly pid?: number | undefined; readonly end?: RunEnd },
    { note, signal }: Noting,
  ): Promise<void> {
    const hooks = (facts.request.hooks ?? []).map((hook, index) => ({ hook, index }))
    const todo = hooks.filter(({ hook }) => hook.at === at && hook.where === where)
    if (todo.length === 0) return
    const { clock, log } = this.#parts
    const env = environmentOf(at, facts, context)
    const process = where === 'inside' ? await processOf(facts) : undefined
    const undoes = at === 'pre-start' || at === 'post-start'
    if (at === 'post-stop') await mkdir(markers(facts), { recursive: true, mode: 0o700 })
    for (const { hook, index } of todo) {
      const once = at === 'post-stop' ? join(markers(facts), String(index)) : undefined
      const run = { hook, env, facts, ...(process ? { process } : {}), ...(once === undefined ? {} : { once }) }
      const result = await runHook(run, { clock, signal })
      if (result === undefined) continue
      await note(result)
      if (result.exitCode === 0) continue
      const said = `${at} hook ${hook.command[0]} of ${facts.name}: exit code ${result.exitCode}`
      if (undoes && hook.onFailure !== 'warn') {
        throw new DarnerError('COMMAND_FAILED', `${said}: ${result.output.trim().slice(-500) || 'it said nothing'}`)
      }
      log.warn({ container: facts.id, at, exitCode: result.exitCode, output: result.output.slice(-500) }, 'hook failed')
    }
  }

  /** A new run begins: its post-stop hooks have not run. */
  async begin(facts: RunFacts): Promise<void> {
    if (!facts.request.hooks?.some(({ at }) => at === 'post-stop')) return
    await rm(markers(facts), { recursive: true, force: true })
    await mkdir(markers(facts), { recursive: true, mode: 0o700 })
  }
}

/** Where each post-stop hook leaves the sign that it has begun. */
function markers({ bundle }: RunFacts): string {
  return join(bundle.path, 'post-stop')
}

function environmentOf(
  at: HookPoint,
  { id, name, request, bundle }: RunFacts,
  { pid, end }: { readonly pid?: number | undefined; readonly end?: RunEnd },
): Record<string, string> {
  return {
    DARNER_HOOK: at,
    DARNER_CONTAINER_ID: id,
    DARNER_CONTAINER_NAME: name,
    DARNER_CONTAINER_IMAGE: request.image,
    DARNER_CONTAINER_BUNDLE: bundle.path,
    DARNER_CONTAINER_RICH: request.rich ?? '',
    ...(pid === undefined ? {} : { DARNER_CONTAINER_PID: String(pid) }),
    ...(end === undefined ? {} : { DARNER_CONTAINER_EXIT_CODE: String(end.exitCode) }),
    ...(end?.error === undefined ? {} : { DARNER_CONTAINER_ERROR: end.error }),
  }
}

/** What the container's own process runs as, without its terminal. */
async function processOf(facts: RunFacts): Promise<OciSpec['process']> {
  const spec = JSON.parse(await readFile(facts.bundle.config, 'utf8')) as OciSpec
  const { consoleSize: _size, ...process } = spec.process
  return { ...process, terminal: false }
}
