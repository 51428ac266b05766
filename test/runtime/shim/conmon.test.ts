import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundleAt } from '../../../runtime/shim/bundle.ts'
import { execDetached, readyConmon } from '../../../runtime/shim/conmon.ts'
import { OciRuntime } from '../../../runtime/shim/oci-runtime.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { until } from '../../fixtures/until.ts'

describe('execDetached', () => {
  it("tells the pid of this run's conmon, also when that is written after the answer and a former run left one", async () => {
    await using dir = await aDir()
    const bundle = bundleAt(dir.path)
    const conmon = join(dir.path, 'conmon')
    const late = `while [ "$1" != -P ]; do shift; done; echo '{"data": 7}' >&3; sleep 0.2; echo 42 > "$2"`
    await writeFile(conmon, `#!/bin/sh\n${late}\n`, { mode: 0o755 })
    await writeFile(bundle.conmonPidFile, '41\n')
    const runtime = new OciRuntime({ name: 'fake', path: '/no/such/runtime', root: dir.path, verbMs: 60_000 })
    const carried = await execDetached(
      conmon,
      {
        ...{ id: 'box', execId: 'box-one', bundle, runtime, exitDir: dir.path, processFile: bundle.config },
        place: async () => {},
      },
      { signal: new AbortController().signal },
    )
    assert.deepEqual(carried, { pid: 7, conmonPid: 42 })
  })
})

describe('readyConmon', () => {
  /** Writes its pid and, once it is told to go on, answers like one that made a container. */
  const script = `while [ "$1" != -P ]; do shift; done; echo $$ > "$2"; read word <&4; echo went > went; echo '{"data": 7}' >&3`

  async function started(folder: string) {
    const bundle = bundleAt(folder)
    const conmon = join(folder, 'conmon')
    await writeFile(conmon, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const runtime = new OciRuntime({ name: 'fake', path: '/no/such/runtime', root: folder, verbMs: 60_000 })
    const placed: number[] = []
    const run = { id: 'box', bundle, runtime, exitDir: folder, tty: false, stdin: false, keepStdin: false }
    const ready = await readyConmon(conmon, { ...run, place: async (pid) => void placed.push(pid) })
    return { ready, pid: placed[0] ?? 0 }
  }

  it('stands in its place and does nothing until it is told', async () => {
    await using dir = await aDir()
    const { ready, pid } = await started(dir.path)
    await using _ready = ready
    await until(() => existsSync(bundleAt(dir.path).conmonPidFile))
    assert.ok(!existsSync(join(dir.path, 'went')))
    const carried = await ready.create({ signal: new AbortController().signal })
    assert.deepEqual(carried, { pid: 7, conmonPid: pid })
  })

  it('is ended when it is let go without a word', async () => {
    await using dir = await aDir()
    const { ready, pid } = await started(dir.path)
    await ready[Symbol.asyncDispose]()
    await until(() => !existsSync(`/proc/${pid}`))
    assert.ok(!existsSync(join(dir.path, 'went')))
  })
})
