/**
 * Rich containers: boot of systemd beside podman, of dumb-init with three services, an upgrade beside stop, rm and run by hand,
 * lxcfs healed after its death, and what a disk quota costs a writer. Needs root; `--runs N` repeats each (default 5).
 */

import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { TOOLS } from '../deploy/setup.ts'
import type { CreateRequest } from '../src/api/containers-api.ts'
import { aRichEngine, type RichEngine } from '../test/fixtures/engine/a-rich-engine.ts'
import { aDir } from '../test/fixtures/host/a-dir.ts'
import { isOnStage } from '../test/fixtures/host/a-stage.ts'
import { aSystemdImage } from '../test/fixtures/images/a-systemd-image.ts'
import type { Figure } from './figure.ts'
import { median } from './median.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'
import { BOUND_BYTES, quotaCosts } from './rich/quota.ts'
import { onAStage } from './stage/on-a-stage.ts'

export const tools = TOOLS
export const about =
  'rich containers: boot, upgrade, lxcfs healed, quota; beside podman and the same by hand; needs root'

const never = new AbortController().signal
const exec = promisify(execFile)
const MIB = 1 << 20
const SLEEP = { Cmd: ['sleep', 'infinity'], Env: ['PATH=/usr/local/bin:/usr/bin:/bin'], StopSignal: 'KILL' }
/** What the upgraded container has in its writable layer. */
const DATA = { files: 2000, fileBytes: 64 << 10 }

export const options = {
  runs: { value: 'N', summary: 'of each figure, in turn', default: '5' },
} as const satisfies BenchOptions

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const runs = numberOf('runs', readOptions(options, args).values.runs, { least: 1, whole: true })
  const tree = await aSystemdImage()
  if (!isOnStage()) return await onAStage('rich', args, signal)
  return [
    await systemdBoot(tree, runs, signal),
    await dumbInitBoot(tree, runs, signal),
    ...(await upgrades(tree, runs, signal)),
    await lxcfsHeals(tree, runs, signal),
    ...(await quotas(tree, runs, signal)),
  ]
}

/** Medians of some works that take turns, so that a slow minute of the machine falls on all of them. */
async function inTurn<Name extends string>(
  works: Readonly<Record<Name, () => Promise<number>>>,
  runs: number,
  signal: AbortSignal,
): Promise<Record<Name, number>> {
  const names = Object.keys(works) as Name[]
  const all = new Map<Name, number[]>(names.map((name) => [name, []]))
  for (let at = 0; at < runs; at++) {
    for (const name of names) {
      signal.throwIfAborted()
      all.get(name)?.push(await works[name]())
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(all.get(name) ?? [])])) as Record<Name, number>
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await work()
  return performance.now() - from
}

async function anEngineFor(tree: string, lxcfs = 'off'): Promise<RichEngine & { readonly dir: string }> {
  const dir = await aDir()
  const images = {
    systemd: { tree },
    debian: { tree, config: SLEEP },
    newer: { tree, config: { ...SLEEP, Labels: { version: '2' } } },
  }
  const engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images, options: { lxcfs } })
  return {
    ...engine,
    dir: dir.path,
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]()
      await dir[Symbol.asyncDispose]()
    },
  }
}

async function started({ runtime }: RichEngine, request: CreateRequest): Promise<string> {
  const { id } = await runtime.containers.create({ network: 'none', ...request })
  await runtime.containers.startContainer(id, { signal: never })
  return id
}

async function removed({ runtime }: RichEngine, id: string): Promise<void> {
  await runtime.containers.remove(id, { force: true, signal: never })
}

/** From the request to `systemctl is-system-running --wait`, each time a new container. */
async function systemdBoot(tree: string, runs: number, signal: AbortSignal): Promise<Figure> {
  await using engine = await anEngineFor(tree)
  const ours = async () => {
    let id = ''
    const ms = await timed(async () => {
      id = await started(engine, { image: 'systemd', rich: 'systemd' })
      await running(async (command) => (await engine.exec(id, command)).exitCode)
    })
    await removed(engine, id)
    return ms
  }
  const podman = await aPodman(tree)
  try {
    const works: Record<string, () => Promise<number>> = { ours, ...(podman ? { theirs: podman.boot } : {}) }
    const found = await inTurn(works, runs, signal)
    return {
      bench: 'rich',
      figure: 'systemd image to running, crun',
      value: found.ours ?? 0,
      unit: 'ms',
      ...(found.theirs === undefined ? {} : { anchor: 'podman --systemd=always, crun', anchorValue: found.theirs }),
    }
  } finally {
    await podman?.close()
  }
}

const IS_RUNNING = ['systemctl', 'is-system-running', '--wait']

/** Asks until systemd answers; it then tells when it is up. */
async function running(ask: (command: string[]) => Promise<number>): Promise<void> {
  while ((await ask(IS_RUNNING)) !== 0) await new Promise((resolve) => setTimeout(resolve, 20))
}

/** Undefined where podman isn't installed, or doesn't boot the image here. */
async function aPodman(
  tree: string,
): Promise<{ readonly boot: () => Promise<number>; readonly close: () => Promise<void> } | undefined> {
  const root = await mkdtemp(join(tmpdir(), 'darner-podman-'))
  const storage = ['--root', join(root, 'root'), '--runroot', join(root, 'run')]
  const shared = [...storage, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', '--runtime', 'crun']
  const podman = (...args: string[]) => exec('podman', [...shared, ...args], { timeout: 60_000 })
  const boot = async () => {
    const ms = await timed(async () => {
      const how = ['--name', 'box', '--network', 'none', '--systemd=always', '--rootfs', `${tree}:O`]
      await podman('run', '-d', ...how, '/sbin/init')
      await running(
        async (command) =>
          await podman('exec', 'box', ...command).then(
            () => 0,
            () => 1,
          ),
      )
    })
    await podman('rm', '-f', '-t', '0', 'box')
    return ms
  }
  const close = async () => {
    await podman('system', 'reset', '-f').catch(() => {}) // its mounts go with the stage
    await rm(root, { recursive: true, force: true }).catch(() => {})
  }
  try {
    await boot()
    return { boot, close }
  } catch {
    console.error('podman boots no systemd here: no anchor for that')
    await close()
    return undefined
  }
}

async function dumbInitBoot(tree: string, runs: number, signal: AbortSignal): Promise<Figure> {
  await using engine = await anEngineFor(tree)
  const services = ['one', 'two', 'three'].map((name) => ({ name, command: ['/bin/sleep', 'infinity'] }))
  const ours = async () => {
    let id = ''
    const ms = await timed(async () => {
      id = await started(engine, { image: 'debian', rich: 'dumb-init', services, command: ['sleep', 'infinity'] })
      const up = () => engine.runtime.services.list().filter((one) => one.status === 'running').length
      while (up() < services.length) await new Promise((resolve) => setTimeout(resolve, 5))
    })
    await removed(engine, id)
    return ms
  }
  const found = await inTurn({ ours }, runs, signal)
  return { bench: 'rich', figure: 'dumb-init with 3 services to all running, crun', value: found.ours, unit: 'ms' }
}

/** From the stop signal to the new process: an upgrade, and what a person would do instead. */
async function upgrades(tree: string, runs: number, signal: AbortSignal): Promise<Figure[]> {
  await using engine = await anEngineFor(tree)
  const { containers, upgrades: upgrader } = engine.runtime
  const byHand = async () => {
    const id = await started(engine, { image: 'debian' })
    let next = ''
    const ms = await timed(async () => {
      await containers.stop(id, { signal: never })
      await removed(engine, id)
      next = await started(engine, { image: 'newer' })
    })
    await removed(engine, next)
    return ms
  }
  const upgraded = async (fill: (id: string) => Promise<void>) => {
    const id = await started(engine, { image: 'debian' })
    await fill(id)
    const { done } = await upgrader.upgrade(id, { image: 'newer', healthTimeoutMs: 1, keepMs: 0 })
    await removed(engine, id)
    return done?.downMs ?? Number.NaN
  }
  const fill = async (id: string) => {
    const script = `mkdir /data; i=0; while [ $i -lt ${DATA.files} ]; do head -c ${DATA.fileBytes} /dev/zero > /data/$i; i=$((i+1)); done`
    await engine.exec(id, ['sh', '-c', `${script}; sync`])
    await new Promise((resolve) => setTimeout(resolve, 2500)) // what is younger is not taken before the stop
  }
  const found = await inTurn(
    {
      bare: () => upgraded(async () => {}),
      bareByHand: byHand,
      data: () => upgraded(fill),
    },
    runs,
    signal,
  )
  const copied = await copyTime(engine, fill, runs, signal)
  const size = `${DATA.files} files, ${(DATA.files * DATA.fileBytes) / MIB} MiB in the writable layer`
  return [
    {
      bench: 'rich',
      figure: 'upgrade downtime, nothing in the writable layer',
      value: found.bare,
      unit: 'ms',
      anchor: 'stop, rm, run by hand',
      anchorValue: found.bareByHand,
    },
    {
      bench: 'rich',
      figure: `upgrade downtime, ${size}`,
      value: found.data,
      unit: 'ms',
      anchor: 'stop, cp -a, rm, run by hand',
      anchorValue: found.bareByHand + copied,
    },
  ]
}

/** A copy of what is in the writable layer, as one would keep it by hand. */
async function copyTime(
  engine: RichEngine & { readonly dir: string },
  fill: (id: string) => Promise<void>,
  runs: number,
  signal: AbortSignal,
): Promise<number> {
  const id = await started(engine, { image: 'debian' })
  await fill(id)
  const copy = () =>
    timed(async () => {
      await exec('cp', ['-a', join(engine.dir, 'rootfs', id, 'rw/upper/data'), join(engine.dir, 'copy')])
    })
  const all: number[] = []
  for (let at = 0; at < runs; at++) {
    signal.throwIfAborted()
    all.push(await copy())
    await rm(join(engine.dir, 'copy'), { recursive: true, force: true })
  }
  await removed(engine, id)
  return median(all)
}

/** From SIGKILL to a container that reads what lxcfs says again. */
async function lxcfsHeals(tree: string, runs: number, signal: AbortSignal): Promise<Figure> {
  const dir = await aDir()
  const images = { debian: { tree, config: SLEEP } }
  const engine = await aRichEngine({ dir: dir.path, runtime: 'crun', images, options: { lxcfs: 'managed' } })
  const pid = async () => Number(await readFile(join(dir.path, 'run/lxcfs/lxcfs.pid'), 'utf8'))
  try {
    const id = await started(engine, { image: 'debian', lxcfs: true })
    const ours = async () => {
      await engine.until(id, ['cat', '/proc/meminfo'])
      process.kill(await pid(), 'SIGKILL')
      return timed(async () => {
        await engine.until(id, ['sh', '-c', '! cat /proc/meminfo'])
        await engine.until(id, ['cat', '/proc/meminfo'])
      })
    }
    const found = await inTurn({ ours }, runs, signal)
    const figure = 'lxcfs killed, to a container that reads again'
    return { bench: 'rich', figure, value: found.ours, unit: 'ms', anchor: 'goal', anchorValue: 5000, goal: '<1' }
  } finally {
    await engine[Symbol.asyncDispose]()
  }
}

/** Three ways of writing into a writable layer with a quota of the pool, and into one without. */
async function quotas(tree: string, runs: number, signal: AbortSignal): Promise<Figure[]> {
  await using engine = await anEngineFor(tree)
  await engine.runtime.quotas.initPool(2 * BOUND_BYTES, { signal: never })
  const free = await started(engine, { image: 'debian' })
  const bound = await started(engine, { image: 'debian', diskQuota: { bytes: BOUND_BYTES } })
  return await quotaCosts(engine, { free, bound, runs, signal })
}
