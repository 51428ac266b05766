/**
 * Runs CNI plugins (CNI SPEC.md 0.3 to 1.1, "Section 2: Execution protocol"): a chain in order for ADD and CHECK, in reverse for DEL. Each
 * plugin is a process with its request in the environment and its configuration on stdin.
 */
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { DarnerError } from '../../src/core/errors.ts'
import { endingDeadline } from '../../src/core/signals.ts'
import { PROGRAM_ENV, type ProgramResult, runProgram } from '../shim/program.ts'
import type { ConfList, PluginConf } from './conflist.ts'

const MOST_OUTPUT_BYTES = 1 << 20

const Result = Type.Object({
  cniVersion: Type.Optional(Type.String()),
  interfaces: Type.Optional(
    Type.Array(
      Type.Object({ name: Type.String(), mac: Type.Optional(Type.String()), sandbox: Type.Optional(Type.String()) }),
    ),
  ),
  ips: Type.Optional(
    Type.Array(
      Type.Object({
        address: Type.String(),
        gateway: Type.Optional(Type.String()),
        interface: Type.Optional(Type.Integer()),
      }),
    ),
  ),
  dns: Type.Optional(
    Type.Object({
      nameservers: Type.Optional(Type.Array(Type.String())),
      search: Type.Optional(Type.Array(Type.String())),
      options: Type.Optional(Type.Array(Type.String())),
    }),
  ),
})
/** What ADD gave (SPEC.md, "ADD Success"); members that the engine doesn't read are kept for the next plugin. */
export type CniResult = Static<typeof Result>

/** What a runtime passes to plugins beside their configuration, by capability (CONVENTIONS.md). */
export interface RuntimeConfig {
  readonly portMappings?: readonly {
    readonly hostPort: number
    readonly containerPort: number
    readonly protocol: string
    readonly hostIP?: string
  }[]
  readonly ips?: readonly string[]
  readonly mac?: string
  readonly aliases?: readonly string[]
}

/** The attachment that a call is about. */
export interface CniTarget {
  readonly containerId: string
  /** Path of the namespace; empty for a DEL after it is gone. */
  readonly netns: string
  readonly ifName: string
  readonly runtimeConfig: RuntimeConfig
}

export interface CniOptions {
  /** Folders with plugins, searched in order. */
  readonly pluginDirs: readonly string[]
  /** No plugin takes longer; it is killed then. */
  readonly pluginMs: number
}

type Waits = { readonly signal: AbortSignal }

/** Every method throws NETWORK_FAILED with the plugin's own message, HOST_UNABLE for a plugin that isn't installed. */
export class Cni {
  readonly #options: CniOptions
  readonly #paths = new Map<string, string>()

  constructor(options: CniOptions) {
    this.#options = options
  }

  /**
   * Adds the interface: each plugin gets the result of the one before. `before` is called ahead of each plugin. With `done` the
   * first plugins have been run and their result is known.
   */
  async add(
    list: ConfList,
    target: CniTarget,
    { signal }: Waits,
    before?: (type: string) => void,
    done?: { readonly plugins: number; readonly result: CniResult },
  ): Promise<CniResult> {
    let result = done?.result
    for (const plugin of list.plugins.slice(done?.plugins ?? 0)) {
      before?.(plugin.type)
      result = resultOf(await this.#run('ADD', list, plugin, target, result, signal), list, plugin)
    }
    return result ?? {}
  }

  /** Looks whether all is as ADD left it; throws when it isn't. Before 0.4.0 there is no such question. */
  async check(list: ConfList, target: CniTarget, result: CniResult, { signal }: Waits): Promise<void> {
    if (list.disableCheck === true || !hasCheck(list)) return
    for (const plugin of list.plugins) await this.#run('CHECK', list, plugin, target, result, signal)
  }

  /** Takes the interface away; fine when there is nothing. `result` is what ADD gave, if it came to that. */
  async del(
    list: ConfList,
    target: CniTarget,
    result: CniResult | undefined,
    { signal }: Waits,
    before?: (type: string) => void,
  ): Promise<void> {
    for (const plugin of list.plugins.toReversed()) {
      before?.(plugin.type)
      await this.#run('DEL', list, plugin, target, result, signal)
    }
  }

  /** Whether the network is ready to take containers; before 1.1 there is no such question. */
  async status(list: ConfList, { signal }: Waits): Promise<void> {
    if (!sinceOneOne(list)) return
    for (const plugin of list.plugins) await this.#run('STATUS', list, plugin, undefined, undefined, signal)
  }

  /** Tells the plugins which attachments are valid, so that they drop all others; before 1.1 there is no such verb. */
  async gc(list: ConfList, valid: readonly CniTarget[], { signal }: Waits): Promise<void> {
    if (!sinceOneOne(list) || list.disableGC === true) return
    const attachments = valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }))
    for (const plugin of list.plugins) {
      const told = { ...plugin, 'cni.dev/valid-attachments': attachments }
      await this.#run('GC', list, told, undefined, undefined, signal)
    }
  }

  /** Path of a plugin. Throws HOST_UNABLE. */
  async find(type: string): Promise<string> {
    const known = this.#paths.get(type)
    if (known !== undefined) return known
    for (const folder of this.#options.pluginDirs) {
      const path = join(folder, type)
      if (await runs(path)) {
        this.#paths.set(type, path)
        return path
      }
    }
    throw new DarnerError('HOST_UNABLE', `CNI plugin ${type} is not in ${this.#options.pluginDirs.join(' or ')}`, {
      way: 'apt install containernetworking-plugins, name the folder with --cni-plugins, or use --network host',
    })
  }

  async #run(
    command: string,
    list: ConfList,
    plugin: PluginConf,
    target: CniTarget | undefined,
    prevResult: CniResult | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const path = await this.find(plugin.type)
    const runtimeConfig = target ? granted(plugin, target.runtimeConfig) : undefined
    const input = JSON.stringify({
      ...plugin,
      cniVersion: list.cniVersion,
      name: list.name,
      ...(runtimeConfig ? { runtimeConfig } : {}),
      ...(prevResult ? { prevResult } : {}),
    })
    const env = {
      ...PROGRAM_ENV,
      CNI_COMMAND: command,
      CNI_PATH: this.#options.pluginDirs.join(':'),
      ...(target ? { CNI_CONTAINERID: target.containerId, CNI_NETNS: target.netns, CNI_IFNAME: target.ifName } : {}),
    }
    using deadline = endingDeadline(signal, this.#options.pluginMs)
    const said = await runProgram(path, [], {
      ...{ input, env, mostOutputBytes: MOST_OUTPUT_BYTES },
      signal: deadline.signal,
    })
    if (said.code === 0) return said.stdout
    throw pluginError(`${command} of ${plugin.type} on network ${list.name}`, said)
  }
}

function hasCheck(list: ConfList): boolean {
  return !list.cniVersion.startsWith('0.3.')
}

function sinceOneOne(list: ConfList): boolean {
  return list.cniVersion === '1.1.0'
}

/** The part of the runtime configuration that the plugin says it can take. */
function granted(plugin: PluginConf, config: RuntimeConfig): Record<string, unknown> | undefined {
  const kept = Object.entries(config).filter(([name, value]) => value !== undefined && plugin.capabilities?.[name])
  return kept.length > 0 ? Object.fromEntries(kept) : undefined
}

function resultOf(stdout: string, list: ConfList, plugin: PluginConf): CniResult {
  let json: unknown
  try {
    json = JSON.parse(stdout)
  } catch {
    // SyntaxError: reported below, like any other answer of the wrong shape
  }
  if (Value.Check(Result, json)) return json
  throw new DarnerError(
    'NETWORK_FAILED',
    `ADD of ${plugin.type} on network ${list.name}: its answer is not a CNI result`,
  )
}

/** SPEC.md, "Error": `{ code, msg, details }` on stdout. */
function pluginError(what: string, said: ProgramResult): DarnerError {
  let error: { code?: unknown; msg?: unknown; details?: unknown } = {}
  try {
    error = JSON.parse(said.stdout) as typeof error
  } catch {
    // SyntaxError: a plugin that died before it could say why
  }
  const text = [error.msg, error.details].filter((one) => typeof one === 'string' && one !== '').join('; ')
  const message = text || said.stderr.trim().slice(0, 2000) || `exit code ${said.code}`
  return new DarnerError('NETWORK_FAILED', `${what}: ${message}`, {
    details: { pluginCode: typeof error.code === 'number' ? error.code : undefined },
  })
}

async function runs(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
