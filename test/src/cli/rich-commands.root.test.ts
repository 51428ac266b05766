import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { runProgram } from '../../../src/cli/program.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

async function darner(socket: string, args: string[], input = ''): Promise<{ code: number; out: string; err: string }> {
  const stdin = new PassThrough()
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() }
  let [out, err] = ['', '']
  streams.stdout.on('data', (chunk) => {
    out += String(chunk)
  })
  streams.stderr.on('data', (chunk) => {
    err += String(chunk)
  })
  stdin.end(input)
  const env = { DARNER_SOCKET: socket }
  const code = await runProgram(args, { env, stdin, ...streams, signal: new AbortController().signal })
  return { code, out, err }
}

describe('rich container commands', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox', 'tini-static'] })
  })

  it('run a command with a side service, list it, and open a login shell', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const rich = ['--rich=dumb-init', '--service', 'tick=/bin/sleep 1000', '--network', 'none']
    const ran = await darner(engine.socket, ['run', '-d', '--name', 'box', ...rich, 'busybox', 'sleep', '1000'])
    assert.equal(ran.code, 0, ran.err)
    const list = await darner(engine.socket, ['ps', '--services'])
    assert.match(list.out, /^CONTAINER +SERVICE +STATUS[^\n]*\nbox +tick +(running|waiting) +0 +- +"\/bin\/sleep 1000"/)
    const shell = await darner(engine.socket, ['enter', '-u', 'web', 'box'], 'echo $USER $SHELL; id -u; exit 3\n')
    assert.deepEqual(shell, { code: 3, out: 'web /bin/sh\n1000\n', err: '' })
    assert.equal((await darner(engine.socket, ['rm', '-f', 'box'])).code, 0)
  })

  it('run with an init script and hooks', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const base = ['run', '--rm', '--network', 'none']
    const made = await darner(engine.socket, [...base, '--initscript', '/bin/touch /tmp/made', 'busybox', 'ls', '/tmp'])
    assert.deepEqual(made, { code: 0, out: 'made\n', err: '' })
    const failed = await darner(engine.socket, [...base, '--hook', 'pre-start:inside:/bin/false', 'busybox', 'true'])
    assert.equal(failed.code, 125)
    assert.match(failed.err, /pre-start hook \/bin\/false of [^:]*: exit code 1/)
  })

  it('refuse a quota until there is a pool', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const asked = await darner(engine.socket, ['run', '--rm', '--disk-quota', '10m', 'busybox', 'true'])
    assert.equal(asked.code, 125)
    assert.match(asked.err, /nothing can enforce it here/)
    assert.match((await darner(engine.socket, ['storage'])).out, /^disk quotas: none/)
    assert.match(
      (await darner(engine.socket, ['storage', 'init', '--size', '64m'])).out,
      /an ext4 in a file per container/,
    )
  })
})
