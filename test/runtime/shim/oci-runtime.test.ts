import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lastComplaint, OciRuntime, runtimeError } from '../../../runtime/shim/oci-runtime.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

describe('lastComplaint', () => {
  it('finds the message in JSON lines, log text and plain text', () => {
    assert.equal(
      lastComplaint('{"level":"error","msg":"first"}\n{"level":"error","msg":"no such file"}\n'),
      'no such file',
    )
    assert.equal(lastComplaint('{"msg":"bad"}\n{"level":"warning","msg":"later"}\n'), 'bad')
    assert.equal(lastComplaint('time="x" level=error msg="exec: \\"x\\": not found"'), 'exec: "x": not found')
    assert.equal(lastComplaint('plain words\n\n'), 'plain words')
    assert.equal(lastComplaint(' \n'), 'it said nothing')
    assert.equal(lastComplaint('{broken json'), '{broken json')
  })
})

describe('runtimeError', () => {
  it('tells an unknown container from other failures', () => {
    assert.equal(
      runtimeError('crun state x', 'error opening file `/run/x/status`: No such file or directory').code,
      'NOT_FOUND',
    )
    assert.equal(runtimeError('runc state x', 'container does not exist').code, 'NOT_FOUND')
    assert.equal(runtimeError('runc create x', 'permission denied').code, 'RUNTIME_FAILED')
  })
})

describe('what a runtime says of itself', () => {
  it('is said once', () => {
    const said = 'runc create failed: unable to start container process: exec: "x": not found'
    assert.equal(
      runtimeError('runc create 1f2e', `{"level":"error","msg":${JSON.stringify(said)}}`).message,
      'runc create 1f2e: unable to start container process: exec: "x": not found',
    )
    assert.equal(runtimeError('runc exec in 1f2e', 'runc exec failed: no').message, 'runc exec in 1f2e: no')
    assert.equal(
      runtimeError('crun create 1f2e', 'runc create failed: no').message,
      'crun create 1f2e: runc create failed: no',
    )
  })
})

describe('OciRuntime', () => {
  it('says which program is missing', async () => {
    const runtime = new OciRuntime({ name: 'none', path: '/no/such/runtime', root: '/tmp', verbMs: 1000 })
    await failsWith(
      'RUNTIME_MISSING',
      runtime.start('x', { signal: new AbortController().signal }),
      /\/no\/such\/runtime: ENOENT/,
    )
  })

  it('says the version that its program has now, and asks it once for each', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'runtime')
    const asked = join(dir.path, 'asked')
    const runtime = new OciRuntime({ name: 'fake', path, root: dir.path, verbMs: 60_000 })
    const { signal } = new AbortController()
    await failsWith('RUNTIME_MISSING', runtime.version({ signal }), /ENOENT/)
    for (const version of ['fake version 1', 'fake version 1.0.2']) {
      await writeFile(path, `#!/bin/sh\necho '${version}'; echo x >> ${asked}\n`, { mode: 0o755 })
      for (let again = 0; again < 3; again++) assert.equal(await runtime.version({ signal }), version)
    }
    assert.equal(await readFile(asked, 'utf8'), 'x\nx\n')
  })

  it('has nothing to resume where cgroup v2 let KILL end what was frozen, or runc thawed it', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'runtime')
    const runtime = new OciRuntime({ name: 'fake', path, root: dir.path, verbMs: 60_000 })
    const { signal } = new AbortController()
    const says = (text: string) => writeFile(path, `#!/bin/sh\necho '${text}' >&2\nexit 1\n`, { mode: 0o755 })
    for (const text of ['the container `x` is not running: No such process', 'container not paused']) {
      await says(text)
      await runtime.resume('x', { signal })
    }
    await says('cannot write to the freezer')
    await failsWith('RUNTIME_FAILED', runtime.resume('x', { signal }), /freezer/)
  })
})
