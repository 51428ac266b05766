// vm: limits and processes under pure cgroup v2
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { CreateRequest } from '../../../src/api/containers-api.ts'
import { anEngine, type EngineFixture } from '../../fixtures/engine/an-engine.ts'
import { failsWith, throwsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal

async function up(engine: EngineFixture, request: Partial<CreateRequest>): Promise<string> {
  const { id } = await engine.runtime.containers.create({ image: 'busybox', ...request })
  await engine.runtime.containers.startContainer(id, { signal: never })
  return id
}

async function exitOf(engine: EngineFixture, request: Partial<CreateRequest>): Promise<number> {
  const id = await up(engine, request)
  return (await engine.runtime.containers.wait(id, { signal: never })).exitCode
}

async function logText(
  engine: EngineFixture,
  id: string,
  query: { follow?: boolean; tail?: number } = {},
): Promise<string> {
  const parts: Buffer[] = []
  for await (const entry of engine.runtime.containers.logs(id, query, { signal: never }))
    parts.push(Buffer.from(entry.bytes))
  return Buffer.concat(parts).toString()
}

/** Waits for a line in the log: the sign that the process came so far. */
async function seen(engine: EngineFixture, id: string, line: string): Promise<void> {
  const enough = new AbortController()
  let text = ''
  for await (const entry of engine.runtime.containers.logs(id, { follow: true }, { signal: enough.signal })) {
    text += Buffer.from(entry.bytes).toString()
    if (text.includes(line)) return
  }
  assert.fail(`the container ended before it said ${line}: ${text}`)
}

async function collect(session: {
  output(): AsyncGenerator<{ stream: string; bytes: Uint8Array }>
}): Promise<{ stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' }
  for await (const { stream, bytes } of session.output())
    text[stream as 'stdout' | 'stderr'] += Buffer.from(bytes).toString()
  return text
}

for (const name of ['runc', 'crun']) {
  describe(`containers under ${name}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { programs: [name, 'conmon', 'busybox'] })
    })

    it('passes exit codes through', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const codes = await Promise.all(
        [['true'], ['false'], ['sh', '-c', 'exit 42'], ['sh', '-c', 'sh -c "kill -9 \\$\\$"; exit $?']].map((command) =>
          exitOf(engine, { command }),
        ),
      )
      assert.deepEqual(codes, [0, 1, 42, 137])
    })

    it('keeps the log to the last line, and gives the tail of it', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const id = await up(engine, { command: ['sh', '-c', 'seq 1 20000; echo done >&2'] })
      const wanted = `${Array.from({ length: 20_000 }, (_, at) => at + 1).join('\n')}\n`
      const streams = { stdout: '', stderr: '' }
      for await (const entry of engine.runtime.containers.logs(id, { follow: true }, { signal: never })) {
        streams[entry.stream] += Buffer.from(entry.bytes).toString()
      }
      assert.equal(streams.stderr, 'done\n')
      assert.ok(streams.stdout === wanted, `${streams.stdout.length} of ${wanted.length} bytes`)
      assert.equal((await logText(engine, id, { tail: 3 })).split('\n').length, 4)
    })

    it('gives environment, working directory and user as image and request say', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const id = await up(engine, {
        command: ['sh', '-c', 'id; env; pwd; hostname'],
        env: ['ASKED=1=2', 'FROM_IMAGE'],
        user: 'web',
        workdir: '/made/here',
        network: 'none',
        hostname: 'box',
      })
      const lines = (await logText(engine, id, { follow: true })).split('\n')
      assert.equal(lines[0], 'uid=1000(web) gid=1000(web) groups=1000(web),2000(logs)')
      for (const line of ['ASKED=1=2', 'HOME=/home/web', 'HOSTNAME=box', 'PATH=/bin', '/made/here', 'box']) {
        assert.ok(lines.includes(line), `${line} is missing in ${lines}`)
      }
      assert.ok(!lines.some((line) => line.startsWith('FROM_IMAGE')))
    })

    it('has loopback up and nothing else without a network', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const id = await up(engine, { command: ['ip', '-o', 'link'], network: 'none' })
      const text = await logText(engine, id, { follow: true })
      assert.match(text, /^1: lo: <LOOPBACK,UP/)
      assert.equal(text.match(/LOWER_UP/g)?.length, 1)
    })

    it('lets who attached before the start see the first byte, and feeds stdin to its end', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const command = ['sh', '-c', 'echo first; cat; echo problem >&2; exit 3']
      const { id } = await containers.create({ image: 'busybox', command, openStdin: true, stdinOnce: true })
      await using session = await containers.attach(id)
      const output = collect(session)
      await containers.startContainer(id, { signal: never })
      const body = 'x'.repeat(100_000)
      await session.write(Buffer.from(body))
      await session.endInput()
      assert.deepEqual(await output, { stdout: `first\n${body}`, stderr: 'problem\n' })
      assert.deepEqual(await session.result, { exitCode: 3 })
    })

    it('gives a terminal of the asked size and resizes it', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const command = ['sh', '-c', 'trap "stty size; exit 5" WINCH; stty size; while :; do sleep 1000 & wait; done']
      const { id } = await containers.create({ image: 'busybox', command, tty: true, openStdin: true })
      await containers.resize(id, { rows: 24, columns: 100 })
      await using session = await containers.attach(id)
      await containers.startContainer(id, { signal: never })
      let text = ''
      for await (const { bytes } of session.output()) {
        text += Buffer.from(bytes).toString()
        if (text === '24 100\r\n') await session.resize({ rows: 40, columns: 132 })
      }
      assert.equal(text, '24 100\r\n40 132\r\n')
      assert.deepEqual(await session.result, { exitCode: 5 })
    })

    it('runs further processes: streams, exit code, user, environment', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { execs } = engine.runtime
      const id = await up(engine, { command: ['sleep', '1000'], env: ['HERE=yes'] })
      const exec = execs.create(id, {
        command: ['sh', '-c', 'cat; echo $HERE $MORE; id -u >&2; exit 7'],
        stdin: true,
        user: 'web',
        env: ['MORE=too'],
      })
      await using session = await execs.start(exec, { signal: never })
      await session.write(Buffer.from('in '))
      await session.endInput()
      assert.deepEqual(await collect(session), { stdout: 'in yes too\n', stderr: '1000\n' })
      assert.deepEqual(await session.result, { exitCode: 7 })
      assert.deepEqual(execs.inspect(exec), { execId: exec, containerId: id, status: 'exited', exitCode: 7 })
    })

    it('runs further processes on a terminal', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { execs } = engine.runtime
      const id = await up(engine, { command: ['sleep', '1000'] })
      // crun sets it late, and stty complains of a terminal without a size
      const untilSized = 'until [ "$(stty size 2>/dev/null)" = "11 77" ]; do usleep 5000; done; stty size'
      const exec = execs.create(id, { command: ['sh', '-c', untilSized], tty: true, size: { rows: 11, columns: 77 } })
      await using session = await execs.start(exec, { signal: never })
      assert.deepEqual(await collect(session), { stdout: '11 77\r\n', stderr: '' })
      assert.deepEqual(await session.result, { exitCode: 0 })
    })

    it('tells a command that is not there from one that may not be run', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers, execs } = engine.runtime
      const { id } = await containers.create({ image: 'busybox', command: ['/no/such'] })
      await failsWith('RUNTIME_FAILED', containers.startContainer(id, { signal: never }), /no such|not found/i)
      assert.equal(containers.inspect(id).status, 'exited')
      assert.equal(containers.inspect(id).exitCode, 127)
      assert.equal(engine.rootfs.mounted.has(id), false)
      const running = await up(engine, { command: ['sleep', '1000'] })
      const exec = execs.create(running, { command: ['/etc/passwd'] })
      await failsWith('RUNTIME_FAILED', execs.start(exec, { signal: never }), /denied|exec/i)
      assert.equal(execs.inspect(exec).exitCode, 126)
    })

    it('stops by the asked signal', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const command = ['sh', '-c', 'trap "exit 9" USR1; trap "" TERM; echo ready; while :; do sleep 1000 & wait; done']
      const id = await up(engine, { command, stopSignal: 'SIGUSR1' })
      await seen(engine, id, 'ready')
      await containers.stop(id, { signal: never })
      assert.equal(containers.inspect(id).exitCode, 9)
    })

    it('kills what does not stop in time, and at once for a timeout of 0', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const command = ['sh', '-c', 'trap "echo asked" TERM; echo ready; while :; do sleep 1000 & wait; done']
      const [slow, fast] = await Promise.all([up(engine, { command }), up(engine, { command })])
      await Promise.all([seen(engine, slow, 'ready'), seen(engine, fast, 'ready')])
      await Promise.all([
        containers.stop(slow, { timeoutSec: 1, signal: never }),
        containers.stop(fast, { timeoutSec: 0, signal: never }),
      ])
      assert.equal(containers.inspect(slow).exitCode, 137)
      assert.equal(containers.inspect(fast).exitCode, 137)
      assert.match(await logText(engine, slow), /asked/)
      assert.doesNotMatch(await logText(engine, fast), /asked/)
    })

    it('starts again after an end, with the writable layer and the log kept', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const id = await up(engine, { command: ['sh', '-c', 'ls /tmp; touch /tmp/made'] })
      await containers.wait(id, { signal: never })
      await containers.startContainer(id, { signal: never })
      assert.deepEqual(await containers.wait(id, { signal: never }), { exitCode: 0 })
      assert.equal(await logText(engine, id), 'made\n')
    })

    it('pauses and resumes', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const id = await up(engine, { command: ['sleep', '1000'] })
      await containers.pause(id, { signal: never })
      assert.equal(containers.inspect(id).status, 'paused')
      await failsWith(
        'STATE_INVALID',
        Promise.resolve().then(() => engine.runtime.execs.create(id, { command: ['true'] })),
        /paused/,
      )
      await containers.stop(id, { timeoutSec: 0, signal: never })
      assert.equal(containers.inspect(id).exitCode, 137)
    })

    it('removes a container that asked for it, telling its exit code', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: name })
      const { containers } = engine.runtime
      const { id } = await containers.create({
        image: 'busybox',
        command: ['sh', '-c', 'exit 6'],
        autoRemove: true,
        name: 'short',
      })
      const exit = containers.wait(id, { nextExit: true, signal: never })
      await containers.startContainer(id, { signal: never })
      assert.deepEqual(await exit, { exitCode: 6 })
      await failsWith('NOT_FOUND', containers.wait(id, { nextExit: true, signal: never }))
      assert.ok(!containers.list({ all: true }).some((one) => one.id === id))
      assert.deepEqual([...engine.rootfs.mounted], [])
      await containers.create({ image: 'busybox', name: 'short' })
      await containers.layersInUse() // by now no file of it is left
      assert.ok(!(await readdir(join(dir.path, 'engine/containers'))).includes(id))
    })
  })
}

describe('containers', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  it('refuses a taken name, frees it on removal and on rename', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const request = { image: 'busybox', name: 'web' }
    const [first, second] = await Promise.allSettled([containers.create(request), containers.create(request)])
    assert.equal(first.status, 'fulfilled')
    assert.ok(second.status === 'rejected')
    await failsWith('CONFLICT', Promise.reject(second.reason), /web is already in use/)
    await containers.rename('web', 'old')
    await containers.create(request)
    await containers.remove('old', { force: false, signal: never })
    await containers.create({ ...request, name: 'old' })
    assert.deepEqual(
      containers
        .list({ all: true })
        .map((one) => one.name)
        .sort(),
      ['old', 'web'],
    )
  })

  it('finds by name, id and start of id', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const { id } = await containers.create({ image: 'busybox', name: 'one' })
    for (const reference of [id, 'one', id.slice(0, 5)]) assert.equal(containers.inspect(reference).id, id)
    throwsWith('NOT_FOUND', () => containers.inspect('two'), /no such container: two/)
  })

  it('tells observers of a removal, once nobody finds the container any more', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const told: string[] = []
    containers.observers.add({
      started: () => {},
      ended: () => {},
      removed: ({ id }) => {
        throwsWith('NOT_FOUND', () => containers.entry(id))
        told.push(id)
      },
    })
    const [kept, passing] = [
      await up(engine, { command: ['true'] }),
      await up(engine, { command: ['true'], autoRemove: true }),
    ]
    await containers.wait(kept, { signal: never })
    await containers.remove(kept, { force: false, signal: never })
    await until(async () => told.includes(passing))
    assert.ok(told.includes(kept))
  })

  it('refuses to remove a running container without force', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const id = await up(engine, { command: ['sleep', '1000'] })
    await failsWith('STATE_INVALID', containers.remove(id, { force: false, signal: never }), /is running/)
    await containers.remove(id, { force: true, signal: never })
    assert.deepEqual(containers.list({ all: true }), [])
  })

  it('answers hostile image configurations with the field that is wrong', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const { containers } = engine.runtime
    const create = (config: unknown) => {
      engine.images.configs.set('bad', config)
      return containers.create({ image: 'bad' })
    }
    const nulls = { Env: null, Entrypoint: null, Cmd: null, User: null, WorkingDir: null, Labels: null, Volumes: null }
    await failsWith('BAD_ARGUMENT', create({ config: nulls }), /no entrypoint or command/)
    await failsWith('BAD_ARGUMENT', create({ config: null }), /no entrypoint or command/)
    await failsWith('BAD_ARGUMENT', create({}), /no entrypoint or command/)
    await failsWith('MANIFEST_INVALID', create(null), /configuration/)
    await failsWith('MANIFEST_INVALID', create({ config: { Cmd: 'sh' } }), /Cmd/)
    await failsWith('MANIFEST_INVALID', create({ config: { Cmd: ['sh'], Env: [1] } }), /Env/)
    await failsWith('BAD_ARGUMENT', create({ config: { Cmd: ['sh'], StopSignal: 'SIGNONE' } }), /SIGNONE/)
    assert.deepEqual(containers.list({ all: true }), [])
  })

  it('says which program is missing, and cleans up', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun', conmon: '/no/such/conmon' })
    await failsWith('RUNTIME_MISSING', up(engine, { command: ['true'] }), /\/no\/such\/conmon: ENOENT/)
    assert.deepEqual([...engine.rootfs.mounted], [])
    assert.equal(engine.runtime.containers.list({ all: true })[0]?.exitCode, 125)
  })

  it('says which user the image lacks', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    await failsWith('BAD_ARGUMENT', up(engine, { command: ['true'], user: 'nobody-here' }), /nobody-here/)
  })

  it('confines by a seccomp profile unless told otherwise, without any file of the distribution (row 12)', async () => {
    await using dir = await aDir()
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    const command = ['grep', 'Seccomp:', '/proc/self/status']
    const plain = await up(engine, { command, seccomp: 'unconfined' })
    assert.equal(await logText(engine, plain, { follow: true }), 'Seccomp:\t0\n')
    const id = await up(engine, { command })
    assert.equal(engine.runtime.containers.inspect(id).seccomp, 'builtin')
    assert.equal(await logText(engine, id, { follow: true }), 'Seccomp:\t2\n')
  })
})
