import assert from 'node:assert/strict'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { OciRuntime } from '../../../runtime/shim/oci-runtime.ts'
import { workingRuntime } from '../../../runtime/shim/runtime-trial.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { programPath } from '../../fixtures/host/needs.ts'

const { signal } = new AbortController()

/** crun's answer on a host whose cgroup2 owns a controller beside v1. */
const HYBRID = '{"msg":"cgroups in hybrid mode not supported, drop all controllers from cgroupv2","level":"error"}'

function runtimesIn(dir: string, paths: Readonly<Record<string, string>>): OciRuntime[] {
  return Object.entries(paths).map(
    ([name, path]) => new OciRuntime({ name, path, root: join(dir, 'run', name), verbMs: 60_000 }),
  )
}

/** A runtime that refuses to create anything. */
async function aRefusing(dir: string): Promise<string> {
  const path = join(dir, 'refusing')
  const script = `#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --log ] && echo '${HYBRID}' > "$2"; shift; done\nexit 1\n`
  await writeFile(path, script, { mode: 0o755 })
  return path
}

describe('workingRuntime', function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['runc', 'crun'] })
  })

  for (const name of ['runc', 'crun'])
    it(`takes ${name} where it creates a container, and leaves nothing of that`, async () => {
      await using dir = await aDir()
      const trial = join(dir.path, 'trial')
      const choice = await workingRuntime(runtimesIn(dir.path, { [name]: programPath(name) ?? '' }), trial, { signal })
      assert.deepEqual(choice, { name, troubles: new Map() })
      assert.deepEqual(await readdir(trial), [])
      assert.deepEqual(
        (await readdir(join(dir.path, 'run', name))).filter((one) => one.startsWith('darner')),
        [],
      )
    })

  it('passes over one that can create nothing on this host, and says why in its words', async () => {
    await using dir = await aDir()
    const runtimes = runtimesIn(dir.path, { crun: await aRefusing(dir.path), runc: programPath('runc') ?? '' })
    const { name, troubles } = await workingRuntime(runtimes, join(dir.path, 'trial'), { signal })
    assert.equal(name, 'runc')
    assert.deepEqual([...troubles.keys()], ['crun'])
    assert.match(troubles.get('crun') ?? '', /cgroups in hybrid mode not supported/)
  })

  it('names the first where none works, with what each said', async () => {
    await using dir = await aDir()
    const refusing = await aRefusing(dir.path)
    const runtimes = runtimesIn(dir.path, { a: refusing, b: refusing })
    const { name, troubles } = await workingRuntime(runtimes, join(dir.path, 'trial'), { signal })
    assert.deepEqual([name, [...troubles.keys()]], ['a', ['a', 'b']])
  })
})
