import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FAULT_POINTS } from '../../../runtime/containers/launch.ts'
import { MS, mount } from '../../../runtime/linux/syscalls.ts'
import { runFolder } from '../../../runtime/shim/run-folder.ts'
import { anEngine, type EngineFixture } from '../../fixtures/engine/an-engine.ts'
import { anEngineProcess } from '../../fixtures/engine/an-engine-process.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { processesOf } from '../../fixtures/host/processes-of.ts'
import { until } from '../../fixtures/until.ts'

const never = new AbortController().signal

/** What a runtime keeps, leaving out crun's cache of seccomp programs. */
async function containersIn(root: string): Promise<string[]> {
  return (await readdir(root)).filter((name) => !name.startsWith('.'))
}

async function stdoutOf(engine: EngineFixture, id: string): Promise<string> {
  let text = ''
  for await (const entry of engine.runtime.containers.logs(id, { follow: true }, { signal: never })) {
    text += Buffer.from(entry.bytes).toString()
  }
  return text
}

for (const runtime of ['runc', 'crun']) {
  describe(`recovery under ${runtime}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this, { programs: [runtime, 'conmon', 'busybox'] })
    })

    it('finds a container that ran on after kill -9 of the engine, its log and exit code whole', async () => {
      await using dir = await aDir()
      await using first = await anEngineProcess({ dir: dir.path, runtime })
      const command = ['sh', '-c', 'echo begun; while [ ! -e /tmp/go ]; do usleep 10000; done; seq 1 5000; exit 33']
      const { id } = await first.client.create({ image: 'busybox', command }, { signal: never })
      await first.client.start(id, { signal: never })
      const before = await first.client.inspect(id, { signal: never })
      await first.kill()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: runtime })
      const { containers, execs } = engine.runtime
      assert.deepEqual({ ...containers.inspect(id) }, before)
      const exec = execs.create(id, { command: ['touch', '/tmp/go'] })
      await using session = await execs.start(exec, { signal: never })
      assert.deepEqual(await session.result, { exitCode: 0 })
      const lines = Array.from({ length: 5000 }, (_, at) => at + 1).join('\n')
      assert.equal(await stdoutOf(engine, id), `begun\n${lines}\n`)
      assert.deepEqual(await containers.wait(id, { signal: never }), { exitCode: 33 })
    })

    it('learns the exit code of a container that ended while no engine ran', async () => {
      await using dir = await aDir()
      await using first = await anEngineProcess({ dir: dir.path, runtime })
      const command = ['sh', '-c', 'trap "exit 21" TERM; echo ready; while :; do usleep 10000; done']
      const { id } = await first.client.create({ image: 'busybox', command, name: 'late' }, { signal: never })
      await first.client.start(id, { signal: never })
      for await (const frame of first.client.logs(id, { follow: true }, { signal: never })) {
        if (Buffer.from(frame.bytes).toString() === 'ready\n') break
      }
      const { pid } = await first.client.inspect(id, { signal: never })
      await first.kill()
      process.kill(pid ?? 0, 'SIGTERM')
      await until(() => processesOf(dir.path).length === 0)
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: runtime })
      const found = engine.runtime.containers.inspect('late')
      assert.equal(found.status, 'exited')
      assert.equal(found.exitCode, 21)
      assert.deepEqual(await containersIn(join(dir.path, 'run', runtime)), [])
    })

    it('says so when conmon was killed, and leaves nothing of the container', async () => {
      await using dir = await aDir()
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: runtime, recheckMs: 50 })
      const { containers } = engine.runtime
      const { id } = await containers.create({ image: 'busybox', command: ['sleep', '1000'] })
      await containers.startContainer(id, { signal: never })
      const conmonPid = Number(readFileSync(join(dir.path, 'engine/containers', id, 'conmon.pid'), 'utf8'))
      const exit = containers.wait(id, { signal: never })
      process.kill(conmonPid, 'SIGKILL')
      assert.deepEqual(await exit, { exitCode: 255, error: 'conmon is gone and left no exit code' })
      await containers.remove(id, { force: true, signal: never })
      assert.deepEqual(await containersIn(join(dir.path, 'run', runtime)), [])
    })
  })
}

describe('kill -9 of the engine', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['crun', 'conmon', 'busybox'] })
  })

  it('leaves below /run what the next start takes away where no record is of it; never another engine’s', async () => {
    await using dir = await aDir()
    const own = join(dir.path, 'engine')
    const gone = 'a'.repeat(64)
    const copies = runFolder('darner-exits', join(own, 'exits'))
    const mounts = runFolder('darner-userns', own)
    const others = runFolder('darner-exits', join(dir.path, 'other/exits'))
    await mkdir(join(mounts, gone, 'root'), { recursive: true, mode: 0o711 })
    mount(dir.path, join(mounts, gone, 'root'), '', MS.BIND, '')
    for (const folder of [copies, others]) {
      await mkdir(join(folder, gone), { recursive: true })
      await writeFile(join(folder, gone, 'exit'), '7')
    }
    await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun' })
    const { id } = await first.client.create({ image: 'busybox', command: ['sleep', '1000'] }, { signal: never })
    await first.client.start(id, { signal: never })
    assert.deepEqual(await readdir(copies), [id])
    assert.equal(existsSync(mounts), false)
    assert.deepEqual(await readdir(others), [gone])
    await first.kill()
    assert.deepEqual(await readdir(copies), [id])
    await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
    assert.deepEqual(await readdir(copies), [id], 'a container that is there keeps its own')
    await engine.runtime.containers.remove(id, { force: true, signal: never })
  })

  for (const fault of FAULT_POINTS) {
    it(`at ${fault}: one restart mends it and loses no container`, async () => {
      await using dir = await aDir()
      await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun', fault })
      const work = async () => {
        const { id } = await first.client.create(
          { image: 'busybox', command: ['true'], name: 'one' },
          { signal: never },
        )
        await first.client.start(id, { signal: never })
        await first.client.wait(id, { signal: never })
        await first.client.remove(id, { signal: never })
      }
      await work().catch(() => {}) // it dies in the middle
      await first.ended
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
      const { containers } = engine.runtime
      const list = containers.list({ all: true })
      if (fault.startsWith('remove:')) assert.deepEqual(list, [])
      else {
        assert.deepEqual(
          list.map((one) => one.name),
          ['one'],
        )
        if (fault.startsWith('exit:')) assert.equal(list[0]?.exitCode, 0)
        await containers.wait('one', { signal: never })
        await containers.startContainer('one', { signal: never }) // it is good for another run
        assert.equal((await containers.wait('one', { signal: never })).exitCode, 0)
        await containers.remove('one', { force: false, signal: never })
      }
      assert.deepEqual(await readdir(join(dir.path, 'engine/containers')), [])
      assert.deepEqual(await readdir(join(dir.path, 'engine/exits')), [])
      assert.deepEqual(await containersIn(join(dir.path, 'run/crun')), [])
      assert.deepEqual([...engine.rootfs.mounted], [])
      await until(() => processesOf(dir.path).length === 0)
    })
  }

  for (const fault of FAULT_POINTS.filter((one) => /^(exit|remove):/.test(one))) {
    it(`at ${fault} of a container that its end removes: one restart takes away what is left`, async () => {
      await using dir = await aDir()
      await using first = await anEngineProcess({ dir: dir.path, runtime: 'crun', fault })
      const work = async () => {
        const request = { image: 'busybox', command: ['true'], name: 'one', autoRemove: true }
        const { id } = await first.client.create(request, { signal: never })
        await first.client.start(id, { signal: never })
      }
      await work().catch(() => {}) // it may die before it answers
      await first.ended
      await using engine = await anEngine({ dir: dir.path, defaultRuntime: 'crun' })
      assert.deepEqual(engine.runtime.containers.list({ all: true }), [])
      assert.deepEqual(await readdir(join(dir.path, 'engine/containers')), [])
      assert.deepEqual(await readdir(join(dir.path, 'engine/exits')), [])
      assert.deepEqual(await containersIn(join(dir.path, 'run/crun')), [])
      assert.deepEqual([...engine.rootfs.mounted], [])
      await until(() => processesOf(dir.path).length === 0)
    })
  }
})
