/**
 * Which OCI runtime can start a container on this host. It is tried by creating one and deleting it, since no fact of the host answers
 * that.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DEVICE_RULES, OCI_VERSION } from '../spec/defaults.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import { type OciRuntime, runtimeError } from './oci-runtime.ts'
import { PROGRAM_ENV } from './program.ts'
import { outcome, spawnProgram } from './spawn.ts'

export interface Choice {
  /** The first that works; the first of all where none does. */
  readonly name: string
  /** Why those before it can't start a container here, or all. */
  readonly troubles: ReadonlyMap<string, string>
}

const SIGKILL = 9

/** Tries them in order up to the first that works. `dir` is made; its bundle goes away again. */
export async function workingRuntime(
  runtimes: readonly OciRuntime[],
  dir: string,
  options: { signal: AbortSignal },
): Promise<Choice> {
  const troubles = new Map<string, string>()
  for (const runtime of runtimes) {
    const { name } = runtime.options
    const trouble = await whyNot(runtime, dir, options)
    if (trouble === undefined) return { name, troubles }
    troubles.set(name, trouble)
  }
  return { name: runtimes[0]?.options.name ?? '', troubles }
}

/** Why a runtime can't create a container here; undefined when it can. */
async function whyNot(
  runtime: OciRuntime,
  dir: string,
  { signal }: { signal: AbortSignal },
): Promise<string | undefined> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const bundle = await mkdtemp(join(dir, 'trial-'))
  const id = `darner-trial-${randomUUID()}`
  try {
    await mkdir(join(bundle, 'rootfs'))
    await mkdir(runtime.options.root, { recursive: true, mode: 0o700 })
    await writeFile(join(bundle, 'config.json'), JSON.stringify(smallest(id)))
    return await created(runtime, id, bundle, signal)
  } finally {
    if (runtime.holds(id)) await runtime.delete(id, { force: true, signal })
    await rm(bundle, { recursive: true, force: true })
  }
}

/**
 * A runtime's container holds its descriptors open as long as it waits to be started. So it gets none of ours, and reports failures in a
 * file.
 */
async function created(
  runtime: OciRuntime,
  id: string,
  bundle: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const said = join(bundle, 'said')
  const args = [...runtime.globalArguments, '--log', said, 'create', '--bundle', bundle, id]
  const child = await spawnProgram(runtime.program, args, { stdio: ['ignore', 'ignore', 'ignore'], env: PROGRAM_ENV })
  const late = AbortSignal.any([signal, AbortSignal.timeout(runtime.options.verbMs)])
  const kill = () => child.kill(SIGKILL)
  late.addEventListener('abort', kill, { once: true })
  const { code } = await outcome(child, 0)
  late.removeEventListener('abort', kill)
  signal.throwIfAborted()
  if (code === 0) return undefined
  const text = await readFile(said, 'utf8').catch(() => '')
  return runtimeError(`${runtime.options.name} create`, text || `exit code ${code}`).message
}

/** Namespaces, cgroup and the mounts that any container has; this process's own program in the place of an image's. */
function smallest(id: string): OciSpec {
  const none = { bounding: [], effective: [], permitted: [] }
  return {
    ociVersion: OCI_VERSION,
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: ['/init'],
      env: [],
      cwd: '/',
      capabilities: none,
      rlimits: [],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: false },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      { destination: '/init', type: 'bind', source: process.execPath, options: ['bind', 'ro'] },
    ],
    linux: {
      cgroupsPath: `/${id}`,
      namespaces: (['mount', 'pid', 'ipc', 'uts'] as const).map((type) => ({ type })),
      resources: { devices: DEVICE_RULES },
      maskedPaths: [],
      readonlyPaths: [],
    },
  }
}
