import assert from 'node:assert/strict'
import { lastComplaint, OciRuntime, runtimeError } from '../../../runtime/shim/oci-runtime.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

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

describe('OciRuntime', () => {
  it('says which program is missing', async () => {
    const runtime = new OciRuntime({ name: 'none', path: '/no/such/runtime', root: '/tmp', verbMs: 1000 })
    await failsWith(
      'RUNTIME_MISSING',
      runtime.start('x', { signal: new AbortController().signal }),
      /\/no\/such\/runtime: ENOENT/,
    )
  })
})
