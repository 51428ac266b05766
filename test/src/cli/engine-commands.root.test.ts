import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { OUTPUT_GONE } from '../../../src/cli/perform.ts'
import { runProgram } from '../../../src/cli/program.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { until } from '../../fixtures/until.ts'

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** One command line against an agent's socket, its streams collected. */
async function darner(
  socket: string,
  args: string[],
  options: { input?: string; signal?: AbortSignal; said?: (stdout: string) => void } = {},
): Promise<Ran> {
  const stdin = new PassThrough()
  const out = { stdout: new PassThrough(), stderr: new PassThrough() }
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) out[name].on('data', (chunk) => (texts[name] += String(chunk)))
  out.stdout.on('data', () => options.said?.(texts.stdout))
  stdin.end(options.input ?? '')
  const env = { DARNER_SOCKET: socket, COPIED: 'from here' }
  const code = await runProgram(args, { env, stdin, ...out, signal: options.signal ?? new AbortController().signal })
  return { code, ...texts }
}

describe('container commands', function () {
  this.timeout(30_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  it('run: passes output, exit code and environment through', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const args = ['run', '--rm', '-e', 'A=1', '-e', 'COPIED', '-e', 'NOT_HERE', 'busybox', 'sh', '-c']
    const ran = await darner(engine.socket, [...args, 'echo $A $COPIED; env | grep NOT_HERE; echo bad >&2; exit 42'])
    assert.deepEqual(ran, { code: 42, stdout: '1 from here\n', stderr: 'bad\n' })
    assert.equal((await darner(engine.socket, ['ps', '-a', '-q'])).stdout, '')
  })

  it('run -i: carries a large stdin through and back whole', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const input = Array.from({ length: 50_000 }, (_, at) => `line ${at}\n`).join('')
    const ran = await darner(engine.socket, ['run', '--rm', '-i', 'busybox', 'cat'], { input })
    assert.equal(ran.code, 0)
    assert.ok(ran.stdout === input, `${ran.stdout.length} of ${input.length} bytes came back`)
  })

  it('run -t: gives a terminal', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const ran = await darner(engine.socket, [
      'run',
      '--rm',
      '-t',
      'busybox',
      'sh',
      '-c',
      '[ -t 0 ] && echo terminal; echo $TERM >&2',
    ])
    assert.deepEqual(ran, { code: 0, stdout: 'terminal\r\nxterm\r\n', stderr: '' })
  })

  it('run: an interrupt goes to the process, whose exit code counts', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const interrupt = new AbortController()
    const command = ['sh', '-c', 'trap "exit 77" INT; echo ready; while :; do usleep 10000; done']
    const running = darner(engine.socket, ['run', '--name', 'busy', 'busybox', ...command], {
      signal: interrupt.signal,
    })
    const { signal } = new AbortController()
    await untilLogged(engine, 'busy', 'ready')
    interrupt.abort(new DOMException('interrupted', 'AbortError'))
    assert.equal((await running).code, 77)
    assert.equal((await engine.client.inspect('busy', { signal })).exitCode, 77)
  })

  it('run: ends quietly when nobody reads its output, also beside a process that takes no interrupt', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const closed = new AbortController()
    // a shell that isn't told to ignore an interrupt ends by it, also as PID 1
    const command = ['sh', '-c', 'trap "" INT; echo ready; while :; do usleep 10000; done']
    const said = (text: string) => text === 'ready\n' && closed.abort(OUTPUT_GONE)
    const running = darner(engine.socket, ['run', '--name', 'deaf', 'busybox', ...command], {
      signal: closed.signal,
      said,
    })
    assert.deepEqual(await running, { code: 1, stdout: 'ready\n', stderr: '' })
    const { signal } = new AbortController()
    assert.equal((await engine.client.inspect('deaf', { signal })).status, 'running')
    await darner(engine.socket, ['rm', '-f', 'deaf'])
  })

  it('run: tells a missing command by 127 and one line', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const ran = await darner(engine.socket, ['run', '--rm', 'busybox', '/no/such'])
    assert.equal(ran.code, 127)
    assert.match(ran.stderr, /^darner: .*\/no\/such.*not found.*\n$/)
    // all of it is undone when that is told
    assert.equal((await darner(engine.socket, ['ps', '-aq'])).stdout, '')
  })

  it('run -d, ps, logs, exec, stop, inspect, rm: the life of one container', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const command = [
      'sh',
      '-c',
      'trap "exit 3" TERM; echo one; echo two >&2; echo three; while :; do usleep 10000; done',
    ]
    const run = await darner(engine.socket, ['run', '-d', '--name', 'web', 'busybox', ...command])
    assert.match(run.stdout, /^[0-9a-f]{64}\n$/)
    for (const word of ['two', 'three']) await untilLogged(engine, 'web', word)
    const ps = await darner(engine.socket, ['ps'])
    assert.match(ps.stdout, /CONTAINER ID.*\n[0-9a-f]{12} +busybox\S* +"sh -c trap.*Up .* +web\n/)
    assert.deepEqual(await darner(engine.socket, ['logs', 'web']), { code: 0, stdout: 'one\nthree\n', stderr: 'two\n' })
    const last = await darner(engine.socket, ['logs', '-n', '1', 'web']) // which stream conmon read last is its affair
    assert.ok(['two\n', 'three\n'].includes(last.stdout + last.stderr), last.stdout + last.stderr)
    assert.match((await darner(engine.socket, ['logs', '-t', 'web'])).stdout, /^20\d\d-\S+ one\n20\d\d-\S+ three\n$/)
    const exec = await darner(
      engine.socket,
      ['exec', '-i', '-u', 'web', '-w', '/tmp', 'web', 'sh', '-c', 'cat; pwd; id -un; exit 9'],
      { input: 'hi\n' },
    )
    assert.deepEqual(exec, { code: 9, stdout: 'hi\n/tmp\nweb\n', stderr: '' })
    assert.equal((await darner(engine.socket, ['exec', 'web', 'no-such'])).code, 127)
    assert.equal((await darner(engine.socket, ['rm', 'web'])).code, 1)
    assert.deepEqual(await darner(engine.socket, ['stop', 'web']), { code: 0, stdout: 'web\n', stderr: '' })
    const [view] = JSON.parse((await darner(engine.socket, ['inspect', 'web'])).stdout)
    assert.deepEqual([view.status, view.exitCode, view.name], ['exited', 3, 'web'])
    const gone = await darner(engine.socket, ['rm', 'web', 'none'])
    assert.deepEqual(gone, { code: 1, stdout: 'web\n', stderr: 'darner: no such container: none\n' })
  })

  it('run: tells by 125 that nothing ran, and leaves nothing of it', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const absent = await darner(engine.socket, ['run', '--pull', 'never', 'absent'])
    assert.equal(absent.code, 125)
    assert.match(absent.stderr, /^darner: No such image: absent:latest\n$/)
    const taken = join(dir.path, 'id')
    await writeFile(taken, 'of another')
    const ran = await darner(engine.socket, ['run', '--cidfile', taken, 'busybox', 'true'])
    assert.deepEqual([ran.code, ran.stdout], [2, ''])
    assert.equal((await darner(engine.socket, ['ps', '-aq'])).stdout, '')
    assert.equal(await readFile(taken, 'utf8'), 'of another')
    const other = join(dir.path, 'other')
    assert.equal((await darner(engine.socket, ['create', '--pull', 'never', '--cidfile', other, 'absent'])).code, 1)
    assert.ok(!existsSync(other))
    const made = await darner(engine.socket, ['create', '--cidfile', other, 'busybox'])
    assert.equal(`${await readFile(other, 'utf8')}\n`, made.stdout)
  })

  it("takes docker's further flags: exec -d and --env-file, logs --until and --tail all, restart -s, inspect -f", async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const command = ['sh', '-c', 'trap "exit 3" USR1; echo one; while :; do usleep 10000; done']
    await darner(engine.socket, ['run', '-d', '--name', 'web', 'busybox', ...command])
    await untilLogged(engine, 'web', 'one')
    const list = join(dir.path, 'env')
    await writeFile(list, '# a list\nA=1\nCOPIED\n')
    const exec = await darner(engine.socket, ['exec', '--env-file', list, 'web', 'sh', '-c', 'echo $A $COPIED'])
    assert.equal(exec.stdout, '1 from here\n')
    const detached = ['exec', '-d', 'web', 'sh', '-c', 'echo two > /proc/1/fd/1']
    assert.deepEqual(await darner(engine.socket, detached), { code: 0, stdout: '', stderr: '' })
    await untilLogged(engine, 'web', 'two')
    const stamped = (await darner(engine.socket, ['logs', '-t', '--tail', 'all', 'web'])).stdout
    const [first = '', second = ''] = stamped.split('\n').map((line) => line.split(' ')[0] ?? '')
    const between = new Date((Date.parse(first) + Date.parse(second)) / 2).toISOString()
    assert.equal((await darner(engine.socket, ['logs', '--until', between, 'web'])).stdout, 'one\n')
    assert.equal((await darner(engine.socket, ['logs', '--tail', 'x', 'web'])).code, 2)
    const asked = await darner(engine.socket, ['inspect', '-f', '{{.State.Status}}', 'web'])
    assert.equal(asked.stdout, 'running\n')
    const { signal } = new AbortController()
    const ended = engine.client.wait('web', { nextExit: true, signal })
    assert.equal((await darner(engine.socket, ['restart', '-s', 'USR1', 'web'])).code, 0)
    assert.equal((await ended).exitCode, 3)
    await darner(engine.socket, ['rm', '-f', 'web'])
  })

  it('logs -f: goes on until the container ends', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    await darner(engine.socket, [
      'run',
      '-d',
      '--name',
      'w',
      'busybox',
      'sh',
      '-c',
      'echo a; while [ ! -e /tmp/go ]; do usleep 10000; done; echo b',
    ])
    const follow = darner(engine.socket, ['logs', '-f', 'w'])
    await untilLogged(engine, 'w', 'a')
    await darner(engine.socket, ['exec', 'w', 'touch', '/tmp/go'])
    assert.deepEqual(await follow, { code: 0, stdout: 'a\nb\n', stderr: '' })
  })

  it('says that no agent is there', async () => {
    const ran = await darner('/nonexistent/agent.sock', ['ps'])
    assert.equal(ran.code, 1)
    assert.match(ran.stderr, /^darner: no agent listens on \/nonexistent\/agent.sock .*; start one/)
  })
})

describe('engine routes', function () {
  this.timeout(30_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  it('refuse bodies that do not fit, with a code', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const { signal } = new AbortController()
    const bodies = [
      {},
      { image: 5 },
      { image: 'busybox', unknown: 1 },
      { image: 'busybox', name: '../x' },
      { image: 'busybox', command: [7] },
    ]
    for (const body of bodies) {
      const error = await engine.client.create(body as never, { signal }).catch((one: unknown) => one)
      assert.equal((error as { code?: string }).code, 'BAD_ARGUMENT', JSON.stringify(body))
    }
    assert.deepEqual(await engine.client.list({ all: true, signal }), [])
  })

  it('let a container live on when its attached client is cut off', async () => {
    await using dir = await aDir()
    await using engine = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const { signal } = new AbortController()
    const command = ['sh', '-c', 'while [ ! -e /tmp/go ]; do echo x; usleep 1000; done; exit 8']
    const { id } = await engine.client.create({ image: 'busybox', command }, { signal })
    const session = await engine.client.attach(id, { signal })
    await engine.client.start(id, { signal })
    const first = await session.frames().next()
    assert.equal(first.done, false)
    session.close()
    await using exec = await engine.client.exec(id, { command: ['touch', '/tmp/go'] }, { signal })
    for (const frames = exec.frames(); !(await frames.next()).done; );
    assert.deepEqual(await engine.client.wait(id, { signal }), { exitCode: 8 })
  })
})

async function untilLogged(
  engine: { client: import('../../../src/cli/engine-client.ts').EngineClient },
  name: string,
  text: string,
): Promise<void> {
  const { signal } = new AbortController()
  await until(async () => {
    let seen = ''
    try {
      for await (const { bytes } of engine.client.logs(name, {}, { signal })) seen += Buffer.from(bytes).toString()
    } catch (error) {
      if ((error as { code?: string }).code !== 'NOT_FOUND') throw error // it isn't created yet
    }
    return seen.includes(text)
  })
}
