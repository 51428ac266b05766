/** What conmon and crun take by themselves for one container that runs `true`: the bound of every engine over them. */
import { execFileSync } from 'node:child_process'
import { watch } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundleAt, clearRun, makeBundle } from '../../runtime/shim/bundle.ts'
import { createContainer } from '../../runtime/shim/conmon.ts'
import { OciRuntime } from '../../runtime/shim/oci-runtime.ts'
import { aDir } from '../../test/fixtures/host/a-dir.ts'
import { programPath } from '../../test/fixtures/host/needs.ts'
import { aBusyboxTree } from '../../test/fixtures/images/a-busybox-tree.ts'
import { medianMs } from './client.ts'

/** Milliseconds of the middle of `runs`: create by conmon, start, the exit file, delete; a network namespace of its own, nothing in it. */
export async function conmonAlone(runs: number, signal: AbortSignal): Promise<number> {
  await using dir = await aDir()
  const rootfs = await aBusyboxTree(dir.path)
  const exitDir = join(dir.path, 'exits')
  await mkdir(exitDir)
  const runtime = new OciRuntime({
    name: 'crun',
    path: programPath('crun') ?? '/usr/bin/crun',
    root: join(dir.path, 'crun'),
    verbMs: 10_000,
  })
  const conmon = programPath('conmon') ?? '/usr/bin/conmon'
  const id = 'f'.repeat(64)
  const bundle = bundleAt(join(dir.path, 'bundle'))
  await makeBundle(bundle)
  execFileSync(runtime.options.path, ['spec'], { cwd: bundle.path })
  const spec = JSON.parse(await readFile(bundle.config, 'utf8')) as Record<string, unknown>
  const process = { ...(spec.process as object), terminal: false, args: ['/bin/true'] }
  await writeFile(bundle.config, JSON.stringify({ ...spec, process, root: { path: rootfs, readonly: false } }))
  return await medianMs(runs, async () => {
    await clearRun(bundle)
    const ended = Promise.withResolvers<void>()
    using _watcher = closing(watch(exitDir, (_event, name) => name === id && ended.resolve()))
    await createContainer(
      conmon,
      { id, bundle, runtime, exitDir, tty: false, stdin: false, keepStdin: false, place: async () => {} },
      { signal },
    )
    await runtime.start(id, { signal })
    await ended.promise
    await runtime.delete(id, { force: true, signal })
  })
}

function closing(watcher: { close(): void }): Disposable {
  return { [Symbol.dispose]: () => watcher.close() }
}
