import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundleAt } from '../../../runtime/shim/bundle.ts'
import { execDetached } from '../../../runtime/shim/conmon.ts'
import { OciRuntime } from '../../../runtime/shim/oci-runtime.ts'
import { aDir } from '../../fixtures/a-dir.ts'

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
